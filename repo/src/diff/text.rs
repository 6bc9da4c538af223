//! Two texts, line by line. Pure, and the same whenever it is asked: there is no deadline.
//!
//! Equal beginnings and ends are put aside as bytes, so that memory and time are those of what lies between. The lines of
//! what lies between are compared as numbers by Myers' algorithm with the bounds that git has (crate `similar`); beyond
//! [`LINES_MAX`] all of it counts as replaced.

use std::collections::HashMap;
use std::ops::Range;

use similar::{Algorithm, DiffOp, capture_diff_slices, group_diff_ops};

use crate::request::{Hunk, Sign, TextDiff};

/// Lines shown around what differs.
const CONTEXT: usize = 3;
/// Lines of both sides that are compared.
const LINES_MAX: usize = 1 << 20;

/// Compares two texts.
pub fn diff_texts(old: Vec<u8>, new: Vec<u8>) -> TextDiff {
    let mut diff = TextDiff { old, new, ..TextDiff::default() };
    if diff.old == diff.new {
        return diff;
    }
    let middle = Middle::of(&diff.old, &diff.new);
    let (old, new) = (Lines::of(&diff.old, middle.old), Lines::of(&diff.new, middle.new));
    for ops in group_diff_ops(script(&old, &new), CONTEXT) {
        for op in ops.iter().filter(|op| !matches!(op, DiffOp::Equal { .. })) {
            diff.deletions += op.old_range().len() as u64;
            diff.insertions += op.new_range().len() as u64;
        }
        diff.hunks.extend(hunk(&ops, &old, &new, middle.lines_before));
    }
    diff
}

/// What lies between the equal beginning and the equal end, with [`CONTEXT`] lines of each.
struct Middle {
    old: Range<usize>,
    new: Range<usize>,
    /// Lines before it; as many on both sides.
    lines_before: usize,
}

impl Middle {
    fn of(old: &[u8], new: &[u8]) -> Self {
        let equal = common(old.iter(), new.iter());
        // Back to the beginning of the line in which they differ, and then some lines.
        let start = line_start(old, equal, CONTEXT);
        let rest = common(old[equal..].iter().rev(), new[equal..].iter().rev());
        let tail = &old[old.len() - rest..];
        // The first line of the equal end may be the end of a line only.
        let whole = tail.iter().position(|&byte| byte == b'\n').map_or(tail.len(), |at| at + 1);
        let context: usize = tail[whole..].split_inclusive(|&byte| byte == b'\n').take(CONTEXT).map(<[u8]>::len).sum();
        let dropped = tail.len() - whole - context;
        let lines_before = count_lines(&old[..start]);
        Self { old: start..old.len() - dropped, new: start..new.len() - dropped, lines_before }
    }
}

fn common<'a>(a: impl Iterator<Item = &'a u8>, b: impl Iterator<Item = &'a u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

fn count_lines(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte == b'\n').count()
}

/// Where the line that holds `at` begins, or one so many lines before it.
fn line_start(text: &[u8], at: usize, before: usize) -> usize {
    let mut ends = text[..at].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    ends.nth(before).map_or(0, |(end, _)| end + 1)
}

/// A stretch of a text, cut into lines.
struct Lines<'a> {
    text: &'a [u8],
    /// Where each begins, and where the last ends.
    bounds: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a [u8], range: Range<usize>) -> Self {
        let mut bounds = vec![range.start];
        for line in text[range.clone()].split_inclusive(|&byte| byte == b'\n') {
            bounds.push(bounds.last().map_or(0, |start| start + line.len()));
        }
        Self { text, bounds }
    }

    fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        let text = self.text;
        self.bounds.windows(2).map(move |bound| &text[bound[0]..bound[1]])
    }

    /// The bytes of some of them.
    fn bytes(&self, lines: Range<usize>) -> Range<usize> {
        self.bounds[lines.start]..self.bounds[lines.end]
    }
}

/// How to get from the old lines to the new.
fn script(old: &Lines<'_>, new: &Lines<'_>) -> Vec<DiffOp> {
    if old.len() + new.len() <= LINES_MAX {
        let (a, b) = number(old, new);
        let ops = capture_diff_slices(Algorithm::Myers, &a, &b);
        // Another's algorithm has the word on what is shown as equal: it is looked at before it is believed.
        if is_script(&ops, &a, &b) {
            return ops;
        }
    }
    let equal = old.iter().zip(new.iter()).take(CONTEXT).take_while(|(a, b)| a == b).count();
    let (old_len, new_len) = (old.len() - equal, new.len() - equal);
    let first = DiffOp::Equal { old_index: 0, new_index: 0, len: equal };
    let rest = DiffOp::Replace { old_index: equal, old_len, new_index: equal, new_len };
    [first, rest].into_iter().filter(|op| !op.old_range().is_empty() || !op.new_range().is_empty()).collect()
}

/// The lines as numbers: equal lines have equal ones.
fn number(old: &Lines<'_>, new: &Lines<'_>) -> (Vec<u32>, Vec<u32>) {
    let mut known = HashMap::new();
    let mut number = |line| {
        let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
        *known.entry(line).or_insert(next)
    };
    let old = old.iter().map(&mut number).collect();
    let new = new.iter().map(&mut number).collect();
    (old, new)
}

/// Whether the steps cover both sides without a gap, and what they call equal is.
fn is_script(ops: &[DiffOp], old: &[u32], new: &[u32]) -> bool {
    let (mut at_old, mut at_new) = (0, 0);
    for op in ops {
        let (from_old, from_new) = (op.old_range(), op.new_range());
        let equal = !matches!(op, DiffOp::Equal { .. }) || old.get(from_old.clone()) == new.get(from_new.clone());
        if from_old.start != at_old || from_new.start != at_new || !equal {
            return false;
        }
        (at_old, at_new) = (from_old.end, from_new.end);
    }
    at_old == old.len() && at_new == new.len()
}

fn hunk(ops: &[DiffOp], old: &Lines<'_>, new: &Lines<'_>, lines_before: usize) -> Option<Hunk> {
    let (first, last) = (ops.first()?, ops.last()?);
    let mut parts = Vec::with_capacity(ops.len() * 2);
    for op in ops {
        let (from_old, from_new) = (op.old_range(), op.new_range());
        if matches!(op, DiffOp::Equal { .. }) {
            parts.push((Sign::Context, old.bytes(from_old)));
            continue;
        }
        parts.push((Sign::Removed, old.bytes(from_old)));
        parts.push((Sign::Added, new.bytes(from_new)));
    }
    parts.retain(|(_, bytes)| !bytes.is_empty());
    let moved = |lines: Range<usize>| lines.start + lines_before..lines.end + lines_before;
    Some(Hunk {
        old: moved(first.old_range().start..last.old_range().end),
        new: moved(first.new_range().start..last.new_range().end),
        parts,
    })
}

#[cfg(test)]
mod tests {
    use filesync_cas::testing::seeds;
    use filesync_merkle::testing::Rng;

    use super::*;

    /// What the hunks make of the old text.
    fn apply(diff: &TextDiff) -> Vec<u8> {
        let old: Vec<&[u8]> = diff.old.split_inclusive(|&byte| byte == b'\n').collect();
        let mut new: Vec<&[u8]> = Vec::new();
        let mut at = 0;
        for hunk in diff.hunks() {
            new.extend(&old[at..hunk.old.start]);
            at = hunk.old.start;
            assert_eq!(new.len(), hunk.new.start);
            for (sign, line) in diff.lines(hunk) {
                if sign != Sign::Added {
                    assert_eq!(line, old[at]);
                    at += 1;
                }
                if sign != Sign::Removed {
                    new.push(line);
                }
            }
            assert_eq!((at, new.len()), (hunk.old.end, hunk.new.end));
        }
        new.extend(&old[at..]);
        new.concat()
    }

    fn check(old: &[u8], new: &[u8]) -> TextDiff {
        let diff = diff_texts(old.to_vec(), new.to_vec());
        assert!(apply(&diff) == new, "{:?} to {:?}", String::from_utf8_lossy(old), String::from_utf8_lossy(new));
        let count =
            |wanted| diff.hunks().iter().flat_map(|hunk| diff.lines(hunk)).filter(|(sign, _)| *sign == wanted).count();
        assert_eq!((count(Sign::Removed) as u64, count(Sign::Added) as u64), (diff.deletions, diff.insertions));
        diff
    }

    fn shown(old: &str, new: &str) -> String {
        let diff = check(old.as_bytes(), new.as_bytes());
        let hunk = |hunk: &Hunk| {
            let sign = |sign| match sign {
                Sign::Context => ' ',
                Sign::Removed => '-',
                Sign::Added => '+',
            };
            let lines =
                diff.lines(hunk).map(|(s, line)| format!("{}{}", sign(s), String::from_utf8_lossy(line).trim_end()));
            format!("{:?} {:?} {}", hunk.old, hunk.new, lines.collect::<Vec<_>>().join("|"))
        };
        diff.hunks().iter().map(hunk).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn hunks_have_three_lines_around() {
        assert_eq!(shown("a\nb\n", "a\nc\n"), "0..2 0..2  a|-b|+c");
        assert_eq!(shown("", "a\nb"), "0..0 0..2 +a|+b");
        assert_eq!(shown("a\n", ""), "0..1 0..0 -a");
        assert_eq!(shown("a", "a\n"), "0..1 0..1 -a|+a");
        assert_eq!(shown("x\na", "y\na"), "0..2 0..2 -x|+y| a");
        let long: String = (0..100).map(|line| format!("{line}\n")).collect();
        let edited = long.replace("\n50\n", "\nfifty\n");
        assert_eq!(shown(&long, &edited), "47..54 47..54  47| 48| 49|-50|+fifty| 51| 52| 53");
        let edited = long.replace("\n50\n", "\n").replace("\n56\n", "\n56\nnew\n").replace("\n90\n", "\nx\n");
        assert_eq!(
            shown(&long, &edited),
            "47..60 47..60  47| 48| 49|-50| 51| 52| 53| 54| 55| 56|+new| 57| 58| 59\n\
             87..94 87..94  87| 88| 89|-90|+x| 91| 92| 93"
        );
        assert_eq!(shown("a\na\na\n", "a\na\na\na\n").lines().count(), 1);
        assert_eq!(shown("a\n", "a\n"), "");
    }

    #[test]
    fn hunks_lead_from_the_old_to_the_new() {
        for seed in seeds(0, 400, 40_000) {
            let mut rng = Rng::new(seed);
            let words = 1 + rng.below(6);
            let text = |rng: &mut Rng| {
                let mut text = Vec::new();
                for _ in 0..rng.below(60) {
                    text.extend(format!("{}\n", rng.below(words)).bytes());
                }
                if rng.below(3) == 0 {
                    text.pop();
                }
                text
            };
            let old = text(&mut rng);
            let new = match rng.below(3) {
                0 => text(&mut rng),
                _ => {
                    // A few edits of bytes, wherever they fall.
                    let mut new = old.clone();
                    for _ in 0..1 + rng.below(4) {
                        let at = usize::try_from(rng.below(new.len() as u64 + 1)).unwrap();
                        match rng.below(3) {
                            0 => drop(new.splice(at..at, text(&mut rng))),
                            1 => drop(new.splice(at.., [])),
                            _ => new.extend_from_slice(b"\n\nx"),
                        }
                    }
                    new
                }
            };
            check(&old, &new);
        }
    }

    #[test]
    fn too_many_lines_are_replaced() {
        let old = "x\n".repeat(LINES_MAX / 2 + 10);
        let new = format!("x\nx\nx\nx\n{}x\nx\n", "y\n".repeat(LINES_MAX / 2));
        let diff = check(old.as_bytes(), new.as_bytes());
        assert_eq!(diff.hunks().len(), 1);
        // An edit in the middle of as many lines is found all the same.
        let edited = [old.as_bytes(), b"new\n", old.as_bytes()].concat();
        let diff = check(&[old.as_bytes(), old.as_bytes()].concat(), &edited);
        assert_eq!((diff.insertions, diff.deletions), (1, 0));
    }
}
