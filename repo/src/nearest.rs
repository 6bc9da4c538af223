//! What somebody may have meant who mistyped a name: for hints, never for decisions.

/// The candidate that is nearest to `word`, if one is near enough to be meant: one edit in three letters, at least one.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let enough = (word.chars().count() / 3).max(1);
    let distances = candidates.into_iter().map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate));
    let near = distances.filter(|(distance, _)| (1..=enough).contains(distance)).min();
    near.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn near_and_far() {
        let names = ["v1.0", "v1.1", "release", "a"];
        for (word, meant) in [
            ("v1,0", Some("v1.0")),
            ("v10", Some("v1.0")),
            ("relaese", Some("release")),
            ("Release", Some("release")),
            ("re", None),
            ("b", Some("a")),
            ("release", None),
            ("something else", None),
            ("", Some("a")),
        ] {
            assert_eq!(nearest(word, names), meant, "{word}");
        }
    }
}
