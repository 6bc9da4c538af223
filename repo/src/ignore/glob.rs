//! Git's `wildmatch`, for all patterns but those that the `ignore` crate looks up.
//!
//! A pattern becomes a short list of steps, and matching follows all ways through them at once: no recursion, and
//! time proportional to the length of the name whatever the pattern. The semantics are those of gitignore(5) and of
//! git's own tests of it; `super::tests` compares with git itself.

/// One step of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// One of these bytes.
    Byte(Box<Set>),
    /// Any bytes but `/`.
    Star,
    /// Any bytes.
    StarStar,
    /// Before `**/`: the two steps behind it, `StarStar` and `/`, or nothing at all.
    Directories,
    /// Cannot match: an unclosed or unknown class, or a backslash at the end.
    Never,
}

/// A set of bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set([u64; 4]);

impl Set {
    const EMPTY: Self = Self([0; 4]);

    fn one(byte: u8) -> Self {
        let mut set = Self::EMPTY;
        set.add(byte);
        set
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn remove(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] &= !(1 << (byte & 63));
    }

    fn add_where(&mut self, test: impl Fn(u8) -> bool) {
        (0..=u8::MAX).filter(|&byte| test(byte)).for_each(|byte| self.add(byte));
    }

    fn invert(&mut self) {
        self.0.iter_mut().for_each(|word| *word = !*word);
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] & 1 << (byte & 63) != 0
    }
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob(Vec<Step>);

impl Glob {
    /// Compiles a pattern. With `path`, only `**` between slashes crosses `/`; without, the text is a name anyway.
    pub(super) fn new(pattern: &[u8], path: bool) -> Self {
        let mut steps = Vec::new();
        let mut at = 0;
        while let Some(&byte) = pattern.get(at) {
            match byte {
                b'*' => {
                    let first = at;
                    while pattern.get(at) == Some(&b'*') {
                        at += 1;
                    }
                    let rest = &pattern[at..];
                    let alone = (first == 0 || pattern[first - 1] == b'/')
                        && (rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"\\/"));
                    let crosses = !path || (at - first > 1 && alone);
                    if path && crosses && rest.starts_with(b"/") {
                        steps.push(Step::Directories);
                    }
                    steps.push(if crosses { Step::StarStar } else { Step::Star });
                    continue;
                }
                b'?' => {
                    let mut any = Set::EMPTY;
                    any.invert();
                    if path {
                        any.remove(b'/');
                    }
                    steps.push(Step::Byte(Box::new(any)));
                }
                b'[' => match parse_class(&pattern[at + 1..]) {
                    Some((mut set, len)) => {
                        if path {
                            set.remove(b'/');
                        }
                        steps.push(Step::Byte(Box::new(set)));
                        at += len;
                    }
                    None => return Self(vec![Step::Never]),
                },
                b'\\' => match pattern.get(at + 1) {
                    Some(&escaped) => {
                        steps.push(Step::Byte(Box::new(Set::one(escaped))));
                        at += 1;
                    }
                    None => return Self(vec![Step::Never]),
                },
                literal => steps.push(Step::Byte(Box::new(Set::one(literal)))),
            }
            at += 1;
        }
        Self(steps)
    }

    /// Whether the text begins and ends as it must: by this alone most names are told from most patterns.
    fn fits_at_the_ends(&self, text: &[u8]) -> bool {
        let fits = |step: Option<&Step>, byte: Option<&u8>| match (step, byte) {
            (Some(Step::Byte(set)), Some(&byte)) => set.has(byte),
            (Some(Step::Byte(_) | Step::Never), None) => false,
            _ => true,
        };
        fits(self.0.first(), text.first()) && fits(self.0.last(), text.last())
    }

    /// Whether the whole text matches.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        if !self.fits_at_the_ends(text) {
            return false;
        }
        // `alive[i]`: the text so far has brought us before step i.
        let mut alive = vec![false; self.0.len() + 1];
        let mut next = alive.clone();
        alive[0] = true;
        self.skip(&mut alive);
        for &byte in text {
            next.fill(false);
            let mut any = false;
            for (at, step) in self.0.iter().enumerate().filter(|&(at, _)| alive[at]) {
                let to = match step {
                    Step::Byte(set) if set.has(byte) => at + 1,
                    Step::Star if byte != b'/' => at,
                    Step::StarStar => at,
                    _ => continue,
                };
                next[to] = true;
                any = true;
            }
            if !any {
                return false;
            }
            self.skip(&mut next);
            std::mem::swap(&mut alive, &mut next);
        }
        alive[self.0.len()]
    }

    /// Goes past the steps that may match nothing. In one pass, since that only leads forward.
    fn skip(&self, alive: &mut [bool]) {
        for (at, step) in self.0.iter().enumerate() {
            if alive[at] {
                match step {
                    Step::Star | Step::StarStar => alive[at + 1] = true,
                    Step::Directories => {
                        alive[at + 1] = true;
                        alive[at + 3] = true;
                    }
                    Step::Byte(_) | Step::Never => {}
                }
            }
        }
    }
}

/// The set after `[`, and how many bytes it took up to and with `]`; `None` if it is not closed or names no class.
fn parse_class(pattern: &[u8]) -> Option<(Set, usize)> {
    let mut set = Set::EMPTY;
    let mut at = 0;
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    if negated {
        at += 1;
    }
    let mut previous = None;
    let first = at;
    loop {
        let byte = *pattern.get(at)?;
        // A `]` that comes first is one of the set.
        if byte == b']' && at > first {
            break;
        }
        let upper = pattern.get(at + 1).copied();
        match (byte, previous) {
            (b'\\', _) => {
                let escaped = upper?;
                set.add(escaped);
                previous = Some(escaped);
                at += 1;
            }
            (b'-', Some(low)) if upper? != b']' => {
                at += 1;
                let mut high = upper?;
                if high == b'\\' {
                    at += 1;
                    high = *pattern.get(at)?;
                }
                set.add_where(|byte| (low..=high).contains(&byte));
                previous = None;
            }
            (b'[', _) if upper == Some(b':') => {
                let rest = &pattern[at + 2..];
                let end = rest.iter().position(|&byte| byte == b']')?;
                match rest[..end].strip_suffix(b":") {
                    Some(name) => {
                        add_named(&mut set, name)?;
                        at += 2 + end;
                        previous = None;
                    }
                    None => {
                        set.add(b'[');
                        previous = Some(b'[');
                    }
                }
            }
            (literal, _) => {
                set.add(literal);
                previous = Some(literal);
            }
        }
        at += 1;
    }
    if negated {
        set.invert();
    }
    Some((set, at + 1))
}

fn add_named(set: &mut Set, name: &[u8]) -> Option<()> {
    let test: fn(&u8) -> bool = match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |&byte| byte == b' ' || byte == b'\t',
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |&byte| byte == b' ' || byte.is_ascii_graphic(),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |&byte| byte == b'\x0b' || byte.is_ascii_whitespace(),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    };
    set.add_where(|byte| test(&byte));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::Glob;

    /// Pattern, text, whether they match as paths.
    const CASES: &[(&str, &str, bool)] = &[
        ("foo", "foo", true),
        ("foo", "bar", false),
        ("", "", true),
        ("???", "foo", true),
        ("??", "foo", false),
        ("*", "foo", true),
        ("f*", "foo", true),
        ("*f", "foo", false),
        ("*foo*", "foo", true),
        ("*ob*a*r*", "foobar", true),
        ("*ab", "aaaaaaabababab", true),
        ("foo\\*", "foo*", true),
        ("foo\\*bar", "foobar", false),
        ("f\\\\oo", "f\\oo", true),
        ("foo\\", "foo", false),
        ("*[al]?", "ball", true),
        ("[ten]", "ten", false),
        ("t[a-g]n", "ten", true),
        ("t[!a-g]n", "ten", false),
        ("t[^a-g]n", "ton", true),
        ("a[]]b", "a]b", true),
        ("a[]-]b", "a-b", true),
        ("a[]a-]b", "aab", true),
        ("]", "]", true),
        ("foo*bar", "foo/baz/bar", false),
        ("foo**bar", "foo/baz/bar", false),
        ("foo**bar", "foobazbar", true),
        ("foo/**/bar", "foo/baz/bar", true),
        ("foo/**/**/bar", "foo/b/baz/bar", true),
        ("foo/**/bar", "foo/bar", true),
        ("foo/**/**/bar", "foo/bar", true),
        ("foo/**/bar", "foo/xbar", false),
        ("**/", "x", false),
        ("**/a", "ba", false),
        ("foo?bar", "foo/bar", false),
        ("foo[/]bar", "foo/bar", false),
        ("foo[^a-z]bar", "foo/bar", false),
        ("f[^eiu][^eiu][^eiu][^eiu][^eiu]r", "foo-bar", true),
        ("**/foo", "foo", true),
        ("**/foo", "XXX/foo", true),
        ("**/foo", "bar/baz/foo", true),
        ("*/foo", "bar/baz/foo", false),
        ("**/bar*", "foo/bar/baz", false),
        ("**/bar/*", "deep/foo/bar/baz", true),
        ("**/bar/*", "deep/foo/bar", false),
        ("**/bar/**", "deep/foo/bar/baz/", true),
        ("**/bar/*/*", "deep/foo/bar/baz/x", true),
        ("[[:alpha:]][[:digit:]][[:upper:]]", "a1B", true),
        ("[[:digit:][:upper:][:space:]]", "a", false),
        ("[[:digit:][:punct:][:space:]]", "_", true),
        ("[[:digit:][:spaci:]]", "1", false),
        ("[a-c[:digit:]x-z]", "5", true),
        ("[a-c[:digit:]x-z]", "q", false),
        ("[\\\\-^]", "]", true),
        ("[\\-_]", "-", true),
        ("[\\]]", "\\", false),
        ("a[]b", "ab", false),
        ("[!]a-]", "a", false),
        ("[,-.]", "-", true),
        ("[a-]", "-", true),
        ("[-a]", "-", true),
        ("[[:x]", ":", true),
        ("[--A]", "5", true),
        ("**/*a*b*g*n*t", "abcd/abcdefg/abcdefghijk/abcdefghijklmnop.txt", true),
        ("*/*/*", "foo/bba/arr", true),
        ("**/**/**", "foo/bb/aa/rr", true),
        ("*X*i", "abcXdefXghi", true),
        ("-*-*-*-*-*-*-12-*-*-*-m-*-*-*", "-adobe-courier-bold-o-normal--12-120-75-75-m-70-iso8859-1", true),
        ("-*-*-*-*-*-*-12-*-*-*-m-*-*-*", "-adobe-courier-bold-o-normal--12-120-75-75-X-70-iso8859-1", false),
    ];

    #[test]
    fn as_git_says() {
        for &(pattern, text, wanted) in CASES {
            assert_eq!(Glob::new(pattern.as_bytes(), true).matches(text.as_bytes()), wanted, "{pattern} on {text}");
        }
    }

    #[test]
    fn long_patterns_end() {
        let pattern = "a*".repeat(2000) + "b";
        assert!(!Glob::new(pattern.as_bytes(), true).matches("a".repeat(255).as_bytes()));
    }
}
