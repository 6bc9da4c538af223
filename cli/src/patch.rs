//! Differences as text that `git apply -p1` and `patch -p1` take. What a patch cannot say (directories, finer
//! modes, extended attributes, what cannot be read) stands in lines of its own, which both pass over.

use std::borrow::Cow;
use std::io::{self, Write};

use filesync_repo::{Change, ChangeKind, Difference, Hunk, Patch, PatchBody, Side, Sign, TextDiff};

use crate::output::{Paint, Shade};
use crate::quote;

const NO_NEWLINE: &[u8] = b"\n\\ No newline at end of file\n";

/// Writes one.
pub fn write(difference: &Difference, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    let Difference { change, patches } = difference;
    let names = Names::of(change);
    for patch in patches.iter().filter(|patch| git_sees(change, patch)) {
        header(change, patch, &names, paint, out)?;
        match &patch.body {
            PatchBody::Same => {}
            PatchBody::Binary => {
                let (old, new) = names.sides(patch);
                writeln!(out, "Binary files {old} and {new} differ")?;
            }
            PatchBody::Text(text) => lines(text, patch, &names, paint, out)?,
        }
    }
    remarks(change, &names, out)
}

/// The two names of a change, as a patch has them.
struct Names<'a> {
    old: Cow<'a, str>,
    new: Cow<'a, str>,
    /// Whether they have a space, and so a tab behind them where `patch` would end them at it.
    tabs: (&'static str, &'static str),
}

impl Names<'_> {
    fn of(change: &Change) -> Self {
        let from = change.from.as_deref().unwrap_or(&change.path);
        let name = |prefix: &[u8], path: &[u8]| Cow::Owned(quote::name(&[prefix, path].concat()).into_owned());
        let tab = |path: &[u8]| if path.contains(&b' ') { "\t" } else { "" };
        Self { old: name(b"a/", from), new: name(b"b/", &change.path), tabs: (tab(from), tab(&change.path)) }
    }

    /// As they stand where a side that is not there is `/dev/null`.
    fn sides(&self, patch: &Patch) -> (&str, &str) {
        let old = if patch.old.is_some() { &*self.old } else { "/dev/null" };
        let new = if patch.new.is_some() { &*self.new } else { "/dev/null" };
        (old, new)
    }
}

/// Whether there is anything in it that git knows of. Of modes that is whether the owner may execute, and a patch that
/// says nothing is refused.
fn git_sees(change: &Change, patch: &Patch) -> bool {
    let is_two_sided = patch.old.is_some() && patch.new.is_some();
    let kind = |side: &Option<Side>| side.map(|side| side.kind);
    change.from.is_some()
        || !is_two_sided
        || kind(&patch.old) != kind(&patch.new)
        || match &patch.body {
            PatchBody::Same => false,
            PatchBody::Binary => true,
            PatchBody::Text(text) => !text.hunks().is_empty(),
        }
}

fn header(change: &Change, patch: &Patch, names: &Names<'_>, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    let (on, off) = paint.around(Shade::Strong);
    writeln!(out, "{on}diff --git {} {}{off}", names.old, names.new)?;
    match (&patch.old, &patch.new) {
        (None, Some(new)) => writeln!(out, "{on}new file mode {:06o}{off}", new.git_mode())?,
        (Some(old), None) => writeln!(out, "{on}deleted file mode {:06o}{off}", old.git_mode())?,
        (Some(old), Some(new)) if old.kind != new.kind => {
            writeln!(out, "{on}old mode {:06o}{off}\n{on}new mode {:06o}{off}", old.git_mode(), new.git_mode())?;
        }
        _ => {}
    }
    if let Some(from) = &change.from {
        writeln!(out, "{on}similarity index 100%{off}")?;
        writeln!(out, "{on}rename from {}{off}", quote::name(from))?;
        writeln!(out, "{on}rename to {}{off}", quote::name(&change.path))?;
    }
    Ok(())
}

fn lines(text: &TextDiff, patch: &Patch, names: &Names<'_>, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    // Of an empty file there is no more to say.
    if text.hunks().is_empty() {
        return Ok(());
    }
    let (old, new) = names.sides(patch);
    let tab = |side: &Option<Side>, tab| if side.is_some() { tab } else { "" };
    let (on, off) = paint.around(Shade::Strong);
    writeln!(out, "{on}--- {old}{}{off}", tab(&patch.old, names.tabs.0))?;
    writeln!(out, "{on}+++ {new}{}{off}", tab(&patch.new, names.tabs.1))?;
    for hunk in text.hunks() {
        write_hunk(text, hunk, paint, out)?;
    }
    Ok(())
}

fn write_hunk(text: &TextDiff, hunk: &Hunk, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    let (on, off) = paint.around(Shade::Notable);
    writeln!(out, "{on}@@ -{} +{} @@{off}", range(&hunk.old), range(&hunk.new))?;
    let (removed, added) = (paint.around(Shade::Bad), paint.around(Shade::Good));
    let plain = (String::new(), String::new());
    for (sign, line) in text.lines(hunk) {
        let (mark, (on, off)) = match sign {
            Sign::Context => (" ", &plain),
            Sign::Removed => ("-", &removed),
            Sign::Added => ("+", &added),
        };
        let (body, end) = match line.strip_suffix(b"\n") {
            Some(body) => (body, b"\n".as_slice()),
            None => (line, NO_NEWLINE),
        };
        out.write_all(on.as_bytes())?;
        out.write_all(mark.as_bytes())?;
        out.write_all(body)?;
        out.write_all(off.as_bytes())?;
        out.write_all(end)?;
    }
    Ok(())
}

/// First line and number, as `@@` has them: the number is left out if it is 1, and no lines stand behind the line
/// before.
fn range(lines: &std::ops::Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        len => format!("{},{len}", lines.start + 1),
    }
}

fn remarks(change: &Change, names: &Names<'_>, out: &mut impl Write) -> io::Result<()> {
    let is_directory = |side: &Option<Side>| side.is_some_and(|side| side.is_directory());
    if change.kind == ChangeKind::Unreadable {
        return writeln!(out, "Cannot read {}", names.new);
    }
    match (is_directory(&change.old), is_directory(&change.new)) {
        (true, false) => writeln!(out, "Directory {} deleted", names.old)?,
        (false, true) => writeln!(out, "Directory {} added", names.new)?,
        _ => {}
    }
    if let (Some(old), Some(new)) = (change.old, change.new)
        && old.kind == new.kind
        && old.mode != new.mode
    {
        let (from, to) = (old.mode, new.mode);
        writeln!(out, "Modes of {} and {} differ: {from:04o} and {to:04o}", names.old, names.new)?;
    }
    if change.attrs {
        writeln!(out, "Extended attributes of {} and {} differ", names.old, names.new)?;
    }
    Ok(())
}
