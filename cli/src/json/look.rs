//! Results of `diff`, `show` and `du`.

use filesync_repo as repo;
use filesync_repo::{PatchBody, Side};
use serde::Serialize;

use super::{LogEntry, Name, line, optional};

/// A line of `diff`; without its version, one of the `changes` of `show`.
#[derive(Serialize)]
pub struct Difference {
    change: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_bytes: Option<String>,
    old_kind: Option<&'static str>,
    new_kind: Option<&'static str>,
    old_mode: Option<String>,
    new_mode: Option<String>,
    old_size: Option<u64>,
    new_size: Option<u64>,
    #[serde(flatten)]
    lines: Option<Lines>,
}

/// How many lines came and went; unknown of what is no text.
#[derive(Serialize)]
struct Lines {
    insertions: Option<u64>,
    deletions: Option<u64>,
}

impl Difference {
    /// With `count`, also how many lines it is about.
    pub fn new(difference: &repo::Difference, count: bool) -> Self {
        let repo::Difference { change, patches } = difference;
        let name = Name::new(&change.path);
        let (from, from_bytes) = optional(change.from.as_deref());
        let kind = |side: Option<Side>| side.map(|side| side.kind.word());
        let mode = |side: Option<Side>| side.map(|side| format!("{:04o}", side.mode));
        let size = |side: Option<Side>| side.filter(|side| !side.is_directory()).map(|side| side.size);
        let lines = count.then(|| {
            let counted = counted(patches);
            Lines {
                insertions: counted.map(|(insertions, _)| insertions),
                deletions: counted.map(|(_, deletions)| deletions),
            }
        });
        Self {
            change: change.kind.letter(),
            path: name.text,
            path_bytes: name.bytes,
            from,
            from_bytes,
            old_kind: kind(change.old),
            new_kind: kind(change.new),
            old_mode: mode(change.old),
            new_mode: mode(change.new),
            old_size: size(change.old),
            new_size: size(change.new),
            lines,
        }
    }
}

/// Lines that came and went; `None` if one of the patches is not about lines.
pub fn counted(patches: &[repo::Patch]) -> Option<(u64, u64)> {
    patches.iter().try_fold((0, 0), |(insertions, deletions), patch| match &patch.body {
        PatchBody::Same => Some((insertions, deletions)),
        PatchBody::Binary => None,
        PatchBody::Text(text) => Some((insertions + text.insertions, deletions + text.deletions)),
    })
}

/// The object of `show`, in pieces: it may have any number of changes. What comes before them; what follows is `]}`.
pub fn show_head(entry: &repo::LogEntry) -> String {
    let object = line(&LogEntry::new(entry));
    let open = object.trim_end().strip_suffix('}').unwrap_or(&object);
    format!("{open},\"changes\":[")
}

/// One of the changes, with a comma in front of all but the first.
pub fn show_change(difference: &repo::Difference, count: bool, is_first: bool) -> String {
    let text = serde_json::to_string(&Difference::new(difference, count));
    let comma = if is_first { "" } else { "," };
    // Only maps with keys that are not strings fail, and there are none.
    format!("{comma}{}", text.expect("results are structs of plain values"))
}

#[derive(Serialize)]
pub struct Du {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    files: u64,
    directories: u64,
    bytes: u64,
}

impl Du {
    pub fn new(entry: &repo::DuEntry) -> Self {
        let name = Name::new(&entry.path);
        let repo::Totals { files, directories, bytes } = entry.totals;
        Self { path: name.text, path_bytes: name.bytes, files, directories, bytes }
    }
}
