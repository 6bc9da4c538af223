//! Names and paths. A value of these types is valid: it was checked when it was made.
//!
//! `docs/format.md`, section 1.4, says what a name may be. That a name is valid here does not make it safe for a
//! file system: who writes to disk looks again, one component at a time.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;

use filesync_cas::vfs::TEMP_PREFIX;

use crate::error::InvalidError;

/// The longest name, in bytes.
pub const NAME_LEN_MAX: usize = 255;

/// One component of a path: 1 to 255 bytes that need not be UTF-8. Ordered as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks and copies a name.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidError> {
        check_name(bytes)?;
        Ok(Self(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether some file system would take it for that of a file that is being prepared. It may stand in a working copy, and
    /// in no tree.
    pub fn is_temporary(&self) -> bool {
        let (name, temp) = (folded(&self.0), TEMP_PREFIX.as_bytes());
        name.get(..temp.len()).is_some_and(|start| start.eq_ignore_ascii_case(temp))
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

/// Says why `bytes` are not a name.
pub(crate) fn check_name(bytes: &[u8]) -> Result<(), InvalidError> {
    if bytes.is_empty() || bytes.len() > NAME_LEN_MAX {
        return Err(InvalidError("a name has 1 to 255 bytes"));
    }
    if bytes.iter().any(|&byte| byte == b'/' || byte == 0) {
        return Err(InvalidError("a name contains `/` or NUL"));
    }
    if bytes == b"." || bytes == b".." {
        return Err(InvalidError("a name is `.` or `..`"));
    }
    if is_store(&folded(bytes)) {
        return Err(InvalidError("a name is a spelling of `.filesync`"));
    }
    Ok(())
}

fn is_store(mut name: &[u8]) -> bool {
    while let [rest @ .., b' ' | b'.'] = name {
        name = rest;
    }
    name.eq_ignore_ascii_case(b".filesync")
}

/// What file systems that fold case make of a name, as far as it may be one of ours: ignorable code points dropped (HFS+,
/// APFS, ext4 and f2fs with case folding), and of other letters those that fold to some of ours.
fn folded(bytes: &[u8]) -> Cow<'_, [u8]> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_ascii() => text,
        _ => return Cow::Borrowed(bytes),
    };
    let mut visible = text.chars().filter(|&c| !is_ignorable(c)).peekable();
    // Few names begin like ours.
    if visible.peek() != Some(&'.') {
        return Cow::Borrowed(bytes);
    }
    let mut folded = String::new();
    for c in visible {
        match c {
            '\u{17F}' => folded.push('s'),
            '\u{FB01}' => folded.push_str("fi"),
            c => folded.push(c),
        }
    }
    Cow::Owned(folded.into_bytes())
}

/// Unicode's `Default_Ignorable_Code_Point`.
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}' | '\u{180B}'..='\u{180F}'
            | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}' | '\u{1BCA0}'..='\u{1BCA3}'
            | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}'
    )
}

/// A path from the root: names joined by `/`; the root itself is empty.
///
/// Ordered by component, as a walk meets them: `a`, `a/b`, `a-b`, although `-` is less than `/`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct RepoPath(Vec<u8>);

impl RepoPath {
    /// The root.
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Checks and copies a path: no empty component, no leading or trailing `/`. Empty bytes are the root.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidError> {
        if !bytes.is_empty() {
            for component in bytes.split(|&byte| byte == b'/') {
                check_name(component)?;
            }
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of `name` in this directory.
    pub fn join(&self, name: &Name) -> Self {
        let mut path = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        path.extend_from_slice(&self.0);
        let mut path = Self(path);
        path.push(name);
        path
    }

    /// Goes down to `name`.
    pub fn push(&mut self, name: &Name) {
        if !self.0.is_empty() {
            self.0.push(b'/');
        }
        self.0.extend_from_slice(&name.0);
    }

    /// Goes up to the parent; `false` at the root, which has none.
    pub fn pop(&mut self) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let end = self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        self.0.truncate(end);
        true
    }

    /// The directory that contains it; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let mut path = self.clone();
        path.pop().then_some(path)
    }

    /// The last component; `None` for the root.
    pub fn name(&self) -> Option<Name> {
        self.components().next_back().map(|bytes| Name(bytes.into()))
    }

    /// The components as bytes, each of which is a valid name.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        self.0.split(|&byte| byte == b'/').filter(|component| !component.is_empty())
    }

    /// The components as names.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = Name> {
        self.components().map(|bytes| Name(bytes.into()))
    }

    /// How many components it has.
    pub fn depth(&self) -> usize {
        self.components().count()
    }

    /// Whether this is `ancestor` or lies below it.
    pub fn starts_with(&self, ancestor: &RepoPath) -> bool {
        if ancestor.is_root() {
            return true;
        }
        match self.0.strip_prefix(ancestor.0.as_slice()) {
            Some(rest) => rest.is_empty() || rest.first() == Some(&b'/'),
            None => false,
        }
    }
}

impl From<Name> for RepoPath {
    fn from(name: Name) -> Self {
        Self(name.0.into_vec())
    }
}

impl Ord for RepoPath {
    fn cmp(&self, other: &Self) -> Ordering {
        walk_order(&self.0, &other.0)
    }
}

/// The order of [`RepoPath`], of the bytes of paths.
pub fn walk_order(a: &[u8], b: &[u8]) -> Ordering {
    // No name contains NUL, so that NUL in place of `/` puts a directory's content right behind it.
    fn rank(&byte: &u8) -> u8 {
        if byte == b'/' { 0 } else { byte }
    }
    a.iter().map(rank).cmp(b.iter().map(rank))
}

impl PartialOrd for RepoPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let bad: &[&[u8]] = &[
            b"",
            b".",
            b"..",
            b"a/b",
            b"/",
            b"a\0",
            &[b'x'; 256],
            b".filesync",
            ".\u{fb01}lesync".as_bytes(),
            ".file\u{17f}ync".as_bytes(),
            "\u{ad}.file\u{fe0f}sync\u{200b}.".as_bytes(),
            b".FILESYNC ",
            b".FileSync. .",
            ".file\u{200c}sync".as_bytes(),
            "\u{feff}.filesync\u{206f}".as_bytes(),
            ".filesync \u{202a}".as_bytes(),
        ];
        for name in bad {
            assert!(Name::new(name).is_err(), "{name:?}");
        }
        let good: &[&[u8]] = &[
            b"...",
            b" ",
            b".filesyncx",
            b".filesync-tmp",
            b".filesyncignore",
            ".fi\u{301}lesync".as_bytes(),
            "\u{e9}.filesync".as_bytes(),
            b"filesync",
            b".filesync\xff",
            b"\xff",
            &[b'x'; 255],
            ".file\u{200c}sync\u{e9}".as_bytes(),
            b".file\xe2\x80\x8csync\xff",
            b"-",
            b"a\nb",
        ];
        for name in good {
            assert!(Name::new(name).is_ok_and(|name| !name.is_temporary()), "{name:?}");
        }
        let temporary: [&[u8]; 3] = [b".filesync-tmp-00", b".Filesync-TMP-", ".\u{fb01}le\u{17f}ync-tmp-x".as_bytes()];
        for name in temporary {
            assert!(Name::new(name).is_ok_and(|name| name.is_temporary()), "{name:?}");
        }
    }

    #[test]
    fn paths() {
        for bad in ["/", "a/", "/a", "a//b", "a/../b", "./a", "a/.filesync/b"] {
            assert!(RepoPath::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let path = RepoPath::parse(b"a/b-c/d").unwrap();
        assert_eq!(path.components().count(), 3);
        assert_eq!(path.depth(), 3);
        assert_eq!(path.parent().unwrap().to_string(), "a/b-c");
        assert_eq!(path.name().unwrap().as_bytes(), b"d");
        assert_eq!(RepoPath::root().parent(), None);
        assert_eq!(RepoPath::root().depth(), 0);
        assert!(path.starts_with(&RepoPath::parse(b"a/b-c").unwrap()));
        assert!(!path.starts_with(&RepoPath::parse(b"a/b").unwrap()));
        let sorted = ["", "a", "a/b", "a/b/c", "a/b-", "a-", "a-b", "b"];
        let paths: Vec<_> = sorted.iter().map(|p| RepoPath::parse(p.as_bytes()).unwrap()).collect();
        assert!(paths.is_sorted());
    }
}
