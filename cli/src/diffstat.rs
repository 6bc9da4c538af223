//! `--stat`, as git draws it: a line a file with a bar, scaled to the width that there is, and a line of sums.

use std::borrow::Cow;
use std::io::{self, Write};

use filesync_repo::{Change, Difference};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::json::counted;
use crate::output::{Paint, Shade};
use crate::quote;

/// What is drawn once all of it is known.
#[derive(Default)]
pub struct DiffStat(Vec<Row>);

struct Row {
    name: String,
    lines: Lines,
}

#[derive(Clone, Copy)]
enum Lines {
    Counted {
        insertions: u64,
        deletions: u64,
    },
    /// No text: bytes before and after.
    Binary {
        old: u64,
        new: u64,
    },
}

impl DiffStat {
    /// Takes a difference whose contents were compared. Directories have no lines, and are not part of it.
    pub fn add(&mut self, difference: &Difference) {
        let Difference { change, patches } = difference;
        if patches.is_empty() {
            return;
        }
        let size = |side: Option<filesync_repo::Side>| side.map_or(0, |side| side.size);
        let lines = match counted(patches) {
            Some((insertions, deletions)) => Lines::Counted { insertions, deletions },
            None => Lines::Binary { old: size(change.old), new: size(change.new) },
        };
        self.0.push(Row { name: name(change).into_owned(), lines });
    }

    /// Draws it, `columns` wide.
    pub fn write(&self, columns: usize, paint: Paint, out: &mut impl Write) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let layout = Layout::new(&self.0, columns);
        for row in &self.0 {
            layout.write(row, paint, out)?;
        }
        let sum = |of: fn(&Lines) -> u64| self.0.iter().map(|row| of(&row.lines)).sum::<u64>();
        let (insertions, deletions) = (sum(Lines::insertions), sum(Lines::deletions));
        write!(out, " {} changed", plural(self.0.len() as u64, "file", ""))?;
        // Where nothing is counted, saying so twice confuses least.
        if insertions > 0 || deletions == 0 {
            write!(out, ", {}", plural(insertions, "insertion", "(+)"))?;
        }
        if deletions > 0 || insertions == 0 {
            write!(out, ", {}", plural(deletions, "deletion", "(-)"))?;
        }
        writeln!(out)
    }
}

fn plural(number: u64, one: &str, sign: &str) -> String {
    format!("{number} {one}{}{sign}", if number == 1 { "" } else { "s" })
}

impl Lines {
    fn insertions(&self) -> u64 {
        match self {
            Self::Counted { insertions, .. } => *insertions,
            Self::Binary { .. } => 0,
        }
    }

    fn deletions(&self) -> u64 {
        match self {
            Self::Counted { deletions, .. } => *deletions,
            Self::Binary { .. } => 0,
        }
    }

    fn total(&self) -> u64 {
        self.insertions() + self.deletions()
    }
}

/// How wide the columns are.
struct Layout {
    name: usize,
    number: usize,
    graph: u64,
    most: u64,
}

impl Layout {
    fn new(rows: &[Row], columns: usize) -> Self {
        let most = rows.iter().map(|row| row.lines.total()).max().unwrap_or(0);
        let widest = rows.iter().map(|row| row.name.width()).max().unwrap_or(0);
        let mut number = digits(most);
        let mut binary = 0;
        for row in rows {
            if let Lines::Binary { old, new } = row.lines {
                // "Bin 1 -> 2 bytes", of which the numbers count apart.
                binary = binary.max(14 + digits(old) + digits(new));
                number = number.max(3);
            }
        }
        // A space in front, " | " and a space behind the number, and one column to spare.
        let columns = columns.max(16 + 6 + number);
        let most_columns = usize::try_from(most).unwrap_or(usize::MAX / 2);
        let mut graph = if most_columns + 4 > binary { most_columns } else { binary - 4 };
        let mut name = widest;
        if name + number + 6 + graph > columns {
            // The bar gets three eighths, and the name what is left; or the other way if the name is short.
            graph = graph.min((columns * 3 / 8).saturating_sub(number + 6).max(6));
            let left = columns - number - 6;
            if name > left - graph {
                name = left - graph;
            } else {
                graph = left - name;
            }
        }
        Self { name, number, graph: graph as u64, most }
    }

    fn write(&self, row: &Row, paint: Paint, out: &mut impl Write) -> io::Result<()> {
        let name = self.fit(&row.name);
        let padding = self.name.saturating_sub(name.width());
        write!(out, " {name}{:padding$} | ", "")?;
        match row.lines {
            Lines::Binary { old: 0, new: 0 } => writeln!(out, "{:>1$}", "Bin", self.number),
            Lines::Binary { old, new } => {
                write!(out, "{:>1$} ", "Bin", self.number)?;
                let ((minus, off), (plus, _)) = (paint.around(Shade::Bad), paint.around(Shade::Good));
                writeln!(out, "{minus}{old}{off} -> {plus}{new}{off} bytes")
            }
            Lines::Counted { insertions, deletions } => {
                let total = insertions + deletions;
                write!(out, "{total:>0$}{1}", self.number, if total > 0 { " " } else { "" })?;
                let (plus, minus) = self.bar(insertions, deletions);
                let draw = |shade, sign: &str, len: u64| {
                    let (on, off) = paint.around(shade);
                    let bar = sign.repeat(usize::try_from(len).unwrap_or(0));
                    if bar.is_empty() { bar } else { format!("{on}{bar}{off}") }
                };
                writeln!(out, "{}{}", draw(Shade::Good, "+", plus), draw(Shade::Bad, "-", minus))
            }
        }
    }

    /// A name that is too long loses its beginning, if it can be at a slash.
    fn fit<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let mut width = name.width();
        if width <= self.name {
            return Cow::Borrowed(name);
        }
        let room = self.name.saturating_sub(3);
        let mut rest = name.chars();
        while width > room {
            let Some(first) = rest.next() else { break };
            width -= first.width().unwrap_or(0);
        }
        let rest = rest.as_str();
        Cow::Owned(format!("...{}", rest.find('/').map_or(rest, |at| &rest[at..])))
    }

    fn bar(&self, insertions: u64, deletions: u64) -> (u64, u64) {
        if self.graph > self.most {
            return (insertions, deletions);
        }
        // Whatever there is shows.
        let scale = |number: u64| if number == 0 { 0 } else { 1 + number * (self.graph - 1) / self.most };
        let mut total = scale(insertions + deletions);
        if total < 2 && insertions > 0 && deletions > 0 {
            total = 2;
        }
        if insertions < deletions {
            let plus = scale(insertions);
            (plus, total - plus)
        } else {
            let minus = scale(deletions);
            (total - minus, minus)
        }
    }
}

fn digits(number: u64) -> usize {
    number.to_string().len()
}

/// The name; of a rename, both, with what they share said once.
fn name(change: &Change) -> Cow<'_, str> {
    let path = quote::name(&change.path);
    let Some(from) = &change.from else { return path };
    let from = quote::name(from);
    if from.starts_with('"') || path.starts_with('"') {
        return Cow::Owned(format!("{from} => {path}"));
    }
    let (a, b) = (from.as_bytes(), path.as_bytes());
    let shared = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let prefix = a[..shared].iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    // The slash that ends the shared beginning may begin the shared end.
    let least = prefix.saturating_sub(1);
    let shared = a[least..].iter().rev().zip(b[least..].iter().rev()).take_while(|(a, b)| a == b).count();
    let tail = &a[a.len() - shared..];
    let suffix = tail.iter().position(|&byte| byte == b'/').map_or(0, |at| tail.len() - at);
    let middle = |name: &str| {
        let end = name.len() - suffix;
        name.get(prefix..end.max(prefix)).unwrap_or_default().to_owned()
    };
    let (old, new) = (middle(&from), middle(&path));
    if prefix + suffix == 0 {
        return Cow::Owned(format!("{from} => {path}"));
    }
    Cow::Owned(format!("{}{{{old} => {new}}}{}", &from[..prefix], &from[from.len() - suffix..]))
}

#[cfg(test)]
mod tests {
    use filesync_repo::ChangeKind;

    use super::*;

    fn named(from: &str, path: &str) -> String {
        let change = Change { from: Some(from.into()), ..Change::new(ChangeKind::Renamed, path.into()) };
        name(&change).into_owned()
    }

    #[test]
    fn renames_share_what_they_can() {
        // As `git diff --stat` shows them.
        for (from, path, shown) in [
            ("a", "b", "a => b"),
            ("d/a", "d/b", "d/{a => b}"),
            ("d/a", "e/a", "{d => e}/a"),
            ("d/x/a", "d/y/a", "d/{x => y}/a"),
            ("d/a", "d/x/a", "d/{ => x}/a"),
            ("d/x/a", "d/a", "d/{x => }/a"),
            ("a", "d/a", "a => d/a"),
            ("a/b/c", "a/b/b/c", "a/b/{ => b}/c"),
            ("sp ace/a", "sp ace/b", "sp ace/{a => b}"),
            ("a\nb", "c", "\"a\\nb\" => c"),
        ] {
            assert_eq!(named(from, path), shown);
        }
    }
}
