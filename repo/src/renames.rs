//! Renames: a file that is gone and a new one of the same content, each counted once. Pure.

use std::collections::{HashMap, VecDeque};

use crate::request::{Change, ChangeKind};

/// Files that may be sides of a rename: what their content is, and which change they are. Empty files are none.
pub type Candidates<K> = Vec<(K, usize)>;

/// Pairs what is gone with what is new, by content: (gone, new), as places in `changes`.
///
/// Of several that have the same content, those of one name come together first, then the rest in the order of the
/// changes.
pub fn pair<K: Ord>(changes: &[Change], mut gone: Candidates<K>, mut new: Candidates<K>) -> Vec<(usize, usize)> {
    gone.sort_unstable();
    new.sort_unstable();
    let mut pairs = Vec::new();
    let (mut gone, mut new) = (gone.as_slice(), new.as_slice());
    while let (Some((key, _)), Some((other, _))) = (gone.first(), new.first()) {
        let (ours, theirs) = (run(gone, key), run(new, other));
        match key.cmp(other) {
            std::cmp::Ordering::Less => gone = &gone[ours..],
            std::cmp::Ordering::Greater => new = &new[theirs..],
            std::cmp::Ordering::Equal => {
                pair_equals(changes, &gone[..ours], &new[..theirs], &mut pairs);
                (gone, new) = (&gone[ours..], &new[theirs..]);
            }
        }
    }
    pairs
}

/// How many of the first have this content.
fn run<K: Ord>(candidates: &[(K, usize)], key: &K) -> usize {
    candidates.partition_point(|(other, _)| other <= key)
}

fn pair_equals<K>(changes: &[Change], gone: &[(K, usize)], new: &[(K, usize)], pairs: &mut Vec<(usize, usize)>) {
    let mut by_name: HashMap<&[u8], VecDeque<usize>> = HashMap::new();
    for (_, at) in gone {
        by_name.entry(last_name(changes, *at)).or_default().push_back(*at);
    }
    let mut paired = Vec::new();
    let mut rest = Vec::new();
    for (_, to) in new {
        match by_name.get_mut(last_name(changes, *to)).and_then(VecDeque::pop_front) {
            Some(from) => paired.push((from, *to)),
            None => rest.push(*to),
        }
    }
    let mut left: Vec<usize> = by_name.into_values().flatten().collect();
    left.sort_unstable();
    paired.extend(left.into_iter().zip(rest));
    pairs.append(&mut paired);
}

fn last_name(changes: &[Change], at: usize) -> &[u8] {
    let path = changes.get(at).map(|change| change.path.as_slice()).unwrap_or_default();
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Makes one change of each pair, in the place of the new one.
pub fn apply(changes: &mut Vec<Change>, pairs: &[(usize, usize)]) {
    let mut gone: Vec<usize> = Vec::with_capacity(pairs.len());
    for &(from, to) in pairs {
        let (path, old) = match changes.get_mut(from) {
            Some(change) => (std::mem::take(&mut change.path), change.old),
            None => continue,
        };
        if let Some(change) = changes.get_mut(to) {
            (change.kind, change.from, change.old) = (ChangeKind::Renamed, Some(path), old);
            change.content = false;
        }
        gone.push(from);
    }
    gone.sort_unstable();
    let (mut at, mut gone) = (0, gone.into_iter().peekable());
    changes.retain(|_| {
        let is_gone = gone.next_if_eq(&at).is_some();
        at += 1;
        !is_gone
    });
}

#[cfg(test)]
mod tests {
    use filesync_cas::testing::seeds;
    use filesync_merkle::testing::Rng;

    use super::*;

    /// Runs the pairing over a text such as `-a/x=1 +b/y=1`: sign, path, content.
    fn run(text: &str) -> String {
        let mut changes = Vec::new();
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for (at, word) in text.split_whitespace().enumerate() {
            let (path, content) = word[1..].split_once('=').unwrap();
            let (kind, side) = match &word[..1] {
                "-" => (ChangeKind::Deleted, &mut gone),
                "+" => (ChangeKind::Added, &mut new),
                _ => (ChangeKind::Modified, &mut Vec::new()),
            };
            side.push((content.to_owned(), at));
            changes.push(Change::new(kind, path.as_bytes().to_vec()));
        }
        let pairs = pair(&changes, gone, new);
        apply(&mut changes, &pairs);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let show = |change: &Change| match &change.from {
            Some(from) => format!("{}>{}", text(from), text(&change.path)),
            None => format!("{}{}", change.kind.letter(), text(&change.path)),
        };
        changes.iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn equal_contents_come_together_once() {
        assert_eq!(run("-a=1 +b=1"), "a>b");
        assert_eq!(run("+a=1 -b=1"), "b>a");
        assert_eq!(run("-a=1 +b=2"), "Da Ab");
        assert_eq!(run("-a=1 -b=1 +c=1"), "Db a>c");
        assert_eq!(run("-a=1 +b=1 +c=1"), "a>b Ac");
        assert_eq!(run("-a=1 !m=1 +b=1 -c=2 +d=2 +e=3"), "Mm a>b c>d Ae");
        assert_eq!(run(""), "");
    }

    #[test]
    fn one_name_goes_before_the_order() {
        assert_eq!(run("-old/a=1 -old/b=1 +new/b=1"), "Dold/a old/b>new/b");
        assert_eq!(run("+new/a=1 +new/c=1 -old/b=1 -old/a=1"), "old/a>new/a old/b>new/c");
    }

    #[test]
    fn no_side_is_lost_and_none_counts_twice() {
        for seed in seeds(0, 200, 20_000) {
            let mut rng = Rng::new(seed);
            let words: Vec<String> = (0..rng.below(30))
                .map(|at| format!("{}{at}={}", ["-", "+"][usize::from(rng.below(2) == 0)], rng.below(4)))
                .collect();
            let (mut gone, mut new) = ([0_u64; 4], [0_u64; 4]);
            for word in &words {
                let content = usize::from(word.as_bytes()[word.len() - 1] - b'0');
                let side = if word.starts_with('-') { &mut gone } else { &mut new };
                side[content] += 1;
            }
            let expected: u64 = gone.iter().zip(&new).map(|(gone, new)| *gone.min(new)).sum();
            let found = run(&words.join(" "));
            let renames = found.split_whitespace().filter(|word| word.contains('>')).count() as u64;
            assert_eq!(renames, expected, "seed {seed}: {words:?}: {found}");
            let left = found.split_whitespace().count() as u64;
            assert_eq!(left + renames, words.len() as u64, "seed {seed}: {found}");
        }
    }
}
