//! Section 3 but for `format` and `HEAD`: what stands in the other small files, and vectors of them.

use super::*;

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64 with padding, in its one form.
fn base64(text: &str) -> Read<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    ensure(text.len().is_multiple_of(4) && text.len() - digits.len() <= 2, "padding of base64")?;
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in digits.bytes() {
        let value = LETTERS.iter().position(|letter| *letter == digit).ok_or("a letter of base64")?;
        (bits, count) = (bits << 6 | u32::try_from(value).expect("below 64"), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count).expect("eight bits"));
            bits &= (1 << count) - 1;
        }
    }
    ensure(bits == 0 && count < 6, "bits left over of base64")?;
    Ok(bytes)
}

/// An id, or none.
fn id_or_none(text: &str) -> Read<()> {
    if text == "none" { Ok(()) } else { id_from_hex(text).map(drop) }
}

fn pack_name(text: &str) -> Read<()> {
    ensure(unhex(text)?.len() == 16, "name of a pack")
}

/// A path from the root, as base64.
fn path(text: &str) -> Read<Vec<u8>> {
    let path = base64(text)?;
    let is_name = |name: &[u8]| (1..=255).contains(&name.len()) && name != b"." && name != b".." && !name.contains(&0);
    ensure(path.split(|byte| *byte == b'/').all(is_name), "a path")?;
    Ok(path)
}

/// What stands at a path: nothing, a directory, or the beginning of a hash.
fn state(text: &str) -> Read<()> {
    if text == "-" || text == "d" { Ok(()) } else { ensure(unhex(text)?.len() == 16, "a state") }
}

fn words<const N: usize>(line: &str) -> Read<[&str; N]> {
    line.splitn(N, ' ').collect::<Vec<_>>().try_into().map_err(|_| format!("{N} words: {line}"))
}

fn at_last(lines: &[String]) -> Read<()> {
    ensure(lines.is_empty(), "lines left over")
}

/// One that is all lines of `name`, each different, ascending.
fn ascending<'a>(lines: &'a [String], name: &str) -> Read<Vec<&'a str>> {
    let words: Vec<&str> = lines.iter().map(|line| word(Some(line), name)).collect::<Read<_>>()?;
    ensure(words.is_sorted_by(|a, b| a < b), "lines out of order")?;
    Ok(words)
}

fn pin(lines: &[String]) -> Read<()> {
    let count = lines.iter().take_while(|line| line.starts_with("root ")).count();
    let mut roots = Vec::new();
    for root in &lines[..count] {
        let [kind, id] = words(word(Some(root), "root")?)?;
        roots.push((number::<u8>(kind)?, id_from_hex(id)?));
    }
    ensure(roots.is_sorted_by(|a, b| a < b), "roots out of order")?;
    match &lines[count..] {
        [] => Ok(()),
        [note] => ensure(!word(Some(note), "note")?.is_empty(), "an empty note"),
        _ => refuse("lines left over"),
    }
}

fn damaged(lines: &[String]) -> Read<()> {
    let packs = lines.iter().take_while(|line| line.starts_with("pack ")).count();
    ascending(&lines[..packs], "pack")?.into_iter().try_for_each(pack_name)?;
    ascending(&lines[packs..], "object")?.into_iter().try_for_each(|id| id_from_hex(id).map(drop))
}

fn journal(lines: &[String]) -> Read<()> {
    id_or_none(word(lines.first(), "commit")?)?;
    let mut rest = &lines[1..];
    if let Some(head) = rest.first().and_then(|line| line.strip_prefix("head ")) {
        id_from_hex(head)?;
        rest = &rest[1..];
    }
    for line in rest {
        let [old, new, at] = words(word(Some(line), "path")?)?;
        state(old)?;
        state(new)?;
        path(at)?;
    }
    Ok(())
}

fn member(lines: &[String]) -> Read<()> {
    number::<u64>(word(lines.first(), "node")?)?;
    let rest: Vec<&str> = lines[1..].iter().map(String::as_str).collect();
    ensure([&[][..], &["log"], &["partial"], &["log", "partial"]].contains(&&rest[..]), "what a member is")
}

fn parts(lines: &[String]) -> Read<()> {
    let paths: Vec<_> = lines.iter().map(|line| path(word(Some(line), "path")?)).collect::<Read<_>>()?;
    let is_below = |path: &[u8], other: &[u8]| path.strip_prefix(other).is_some_and(|rest| rest.starts_with(b"/"));
    ensure(!paths.is_empty() && paths.is_sorted_by(|a, b| a < b), "paths out of order")?;
    ensure(!paths.iter().any(|path| paths.iter().any(|other| is_below(path, other))), "a path below another")
}

/// The state itself is the protocol's.
fn remote(lines: &[String]) -> Read<()> {
    number::<u64>(word(lines.first(), "index")?)?;
    id_or_none(word(lines.get(1), "held")?)?;
    id_or_none(word(lines.get(2), "step")?)?;
    base64(word(lines.get(3), "state")?)?;
    at_last(&lines[4..])
}

/// A change of a ref: where it stood, where it is to stand, and its name.
fn change(text: &str) -> Read<&str> {
    let [old, new, name] = words(text)?;
    id_or_none(old)?;
    id_or_none(new)?;
    ensure(!name.is_empty(), "a name")?;
    Ok(name)
}

fn outbox(lines: &[String]) -> Read<()> {
    number::<u64>(word(lines.first(), "seq")?)?;
    match &lines[1..] {
        [] => Ok(()),
        [line] => change(word(Some(line), "move")?).map(drop),
        _ => refuse("lines left over"),
    }
}

fn refs_local(lines: &[String]) -> Read<()> {
    let names: Vec<_> = lines.iter().map(|line| change(word(Some(line), "tag")?)).collect::<Read<_>>()?;
    ensure(names.is_sorted_by(|a, b| a < b), "tags out of order")
}

/// Reads the small file that the page calls `name`; none if it is not one of these.
pub fn read(name: &str, bytes: &[u8]) -> Option<Read<()>> {
    type Rule = fn(&[String]) -> Read<()>;
    let (title, rule): (&str, Rule) = match name {
        "identity" => ("identity", |lines| {
            id_from_hex(word(lines.first(), "secret")?)?;
            at_last(&lines[1..])
        }),
        "refs/tags/NAME" => ("ref", |lines| {
            id_from_hex(word(lines.first(), "commit")?)?;
            at_last(&lines[1..])
        }),
        "pins/ID" => ("pin", pin),
        "damaged" => ("damaged", damaged),
        "journal" => ("journal", journal),
        "member" => ("member", member),
        "parts" => ("parts", parts),
        "remote" => ("remote", remote),
        "outbox" => ("outbox", outbox),
        "collected" => ("collected", |lines| ascending(lines, "pack")?.into_iter().try_for_each(pack_name)),
        "refs.local" => ("refs.local", refs_local),
        _ => return None,
    };
    Some(small_file(bytes, &format!("filesync {title} 1")).and_then(|lines| rule(&lines)))
}

/// Of a cluster that has had no life: the repository, eleven times nothing.
const STATE: &str = "EREREREREREREREREREREREREREREREREREREREREREAAAAAAAAAAAAAAA==";

/// Each of them with all lines that it may have; without the last one, which is the check of what stands before.
pub fn vectors() -> Vec<(&'static str, String)> {
    let [one, two, three] = [0x55, 0x66, 0x77].map(|byte| hex(&[byte; 32]));
    let [a, b] = [0x22, 0x33].map(|byte| hex(&[byte; 16]));
    // Paths: `a`, `d`, `dir/b`.
    vec![
        ("identity", format!("filesync identity 1\nsecret {}\n", hex(&[0x44; 32]))),
        ("refs/tags/NAME", format!("filesync ref 1\ncommit {one}\n")),
        ("pins/ID", format!("filesync pin 1\nroot 3 {two}\nroot 4 {one}\nroot 4 {two}\nnote what it is for\n")),
        ("damaged", format!("filesync damaged 1\npack {a}\npack {b}\nobject {one}\nobject {two}\n")),
        (
            "journal",
            format!(
                "filesync journal 1\ncommit {one}\nhead {two}\npath {a} {b} YQ==\npath d - ZA==\npath - {a} ZGlyL2I=\n"
            ),
        ),
        ("member", "filesync member 1\nnode 12\nlog\n".to_owned()),
        ("member", "filesync member 1\nnode 3\npartial\n".to_owned()),
        ("parts", "filesync parts 1\npath YQ==\npath ZGlyL2I=\n".to_owned()),
        ("remote", format!("filesync remote 1\nindex 42\nheld {one}\nstep {two}\nstate {STATE}\n")),
        ("outbox", format!("filesync outbox 1\nseq 7\nmove {one} {two} main\n")),
        ("collected", format!("filesync collected 1\npack {a}\npack {b}\n")),
        (
            "refs.local",
            format!("filesync refs.local 1\ntag {two} {three} a.c\ntag {one} none a/b\ntag none {one} v1\n"),
        ),
    ]
}
