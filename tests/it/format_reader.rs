//! A second reader of repositories, written from `docs/format.md` alone and without the crates that write them: plain
//! functions over byte slices, everything in memory, no index, no damage tolerated. If it and the program disagree,
//! one of the program and the page is wrong.

mod small;

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use filesync_tests::model::{self, Item};
use filesync_tests::world::{World, is_long, skipped};

type Id = [u8; 32];
type Read<T> = Result<T, String>;
/// `stored[&(kind, id)]`: the bytes of an object.
type Objects = HashMap<(u8, Id), Vec<u8>>;

const CHUNK: u8 = 1;
const LIST: u8 = 2;
const TREE: u8 = 3;
const COMMIT: u8 = 4;
const PUB: u8 = 5;
const ATTRS: u8 = 6;

fn refuse<T>(why: impl Into<String>) -> Read<T> {
    Err(why.into())
}

fn ensure(holds: bool, why: &str) -> Read<()> {
    if holds { Ok(()) } else { refuse(why) }
}

// Bytes.

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Read<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(len).ok_or("too short")?;
    *bytes = rest;
    Ok(front)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Read<[u8; N]> {
    Ok(take(bytes, N)?.try_into().expect("as long as asked for"))
}

fn u8_of(bytes: &mut &[u8]) -> Read<u8> {
    Ok(array::<1>(bytes)?[0])
}

fn u16_of(bytes: &mut &[u8]) -> Read<u16> {
    array(bytes).map(u16::from_le_bytes)
}

fn u32_of(bytes: &mut &[u8]) -> Read<u32> {
    array(bytes).map(u32::from_le_bytes)
}

fn u64_of(bytes: &mut &[u8]) -> Read<u64> {
    array(bytes).map(u64::from_le_bytes)
}

fn size(number: impl TryInto<usize>) -> usize {
    number.try_into().ok().expect("small")
}

fn only_zeros(bytes: &mut &[u8], len: usize) -> Read<()> {
    ensure(take(bytes, len)?.iter().all(|&byte| byte == 0), "reserved bytes are not zero")
}

fn at_end(bytes: &[u8]) -> Read<()> {
    ensure(bytes.is_empty(), "bytes left over")
}

fn unhex(text: &str) -> Read<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => refuse("not lower-case hex"),
    };
    ensure(text.len().is_multiple_of(2), "half a byte of hex")?;
    text.as_bytes().chunks(2).map(|pair| Ok(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

fn id_from_hex(text: &str) -> Read<Id> {
    unhex(text)?.try_into().map_err(|_| "not 32 bytes".to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check16(parts: &[&[u8]]) -> [u8; 16] {
    let hash = blake3::hash(&parts.concat());
    hash.as_bytes()[..16].try_into().expect("16 of 32")
}

/// Section 1: what names an object.
fn id_of(kind: u8, bytes: &[u8]) -> Read<Id> {
    let (context, max) = match kind {
        CHUNK => {
            ensure((1..=1 << 20).contains(&bytes.len()), "length of a chunk")?;
            return Ok(*blake3::hash(bytes).as_bytes());
        }
        LIST => ("filesync list v1", 256 << 10),
        TREE => ("filesync tree v1", 256 << 10),
        COMMIT => ("filesync commit v1", 256 << 10),
        PUB => ("filesync pub v1", 4 << 10),
        ATTRS => ("filesync attrs v1", 64 << 10),
        _ => return refuse("unknown kind of object"),
    };
    ensure(bytes.len() <= max, "object too large")?;
    Ok(blake3::derive_key(context, bytes))
}

// Section 3: small files.

fn small_file(bytes: &[u8], title: &str) -> Read<Vec<String>> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8")?;
    let body = text.strip_suffix('\n').ok_or("no end of line at the end")?;
    let before = body.rfind('\n').ok_or("one line only")? + 1;
    let check = body[before..].strip_prefix("check ").ok_or("no check")?;
    ensure(check == hex(&check16(&[&bytes[..before]])), "the check does not fit")?;
    let mut lines = body[..before - 1].split('\n').map(str::to_owned);
    ensure(lines.next().as_deref() == Some(title), "another file, or version")?;
    Ok(lines.collect())
}

fn word<'a>(line: Option<&'a String>, name: &str) -> Read<&'a str> {
    let line = line.ok_or_else(|| format!("no {name}"))?;
    line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(|| format!("no {name}: {line}"))
}

fn number<T: std::str::FromStr + ToString>(text: &str) -> Read<T> {
    let number: T = text.parse().map_err(|_| format!("not a number: {text}"))?;
    ensure(number.to_string() == text, "a number in another form")?;
    Ok(number)
}

struct Format {
    repository: Id,
    chunk_sizes: [u32; 3],
}

fn format_file(bytes: &[u8]) -> Read<Format> {
    let lines = small_file(bytes, "filesync 1")?;
    ensure(lines.len() == 5, "format has seven lines")?;
    let repository = id_from_hex(word(lines.first(), "repository")?)?;
    let sizes = word(lines.get(1), "chunker")?.strip_prefix("fastcdc-v2020 ").ok_or("unknown chunker")?;
    let sizes: Vec<u32> = sizes.split(' ').map(number).collect::<Read<_>>()?;
    let sizes: [u32; 3] = sizes.try_into().map_err(|_| "three chunk sizes")?;
    let [min, avg, max] = sizes;
    ensure(avg.is_power_of_two() && (4 << 10..=256 << 10).contains(&avg), "average chunk size")?;
    ensure(min == avg / 4 && max == avg * 4, "chunk sizes")?;
    ensure(["codec zstd 3", "codec none"].contains(&lines[2].as_str()), "unknown codec")?;
    ensure(lines[3] == "read:" && lines[4] == "write:", "features of another version")?;
    Ok(Format { repository, chunk_sizes: sizes })
}

struct Head {
    generation: u64,
    commit: Option<Id>,
    /// Name, class as in a pack's header, mark.
    open: Vec<(String, u8, u64)>,
}

fn head_file(bytes: &[u8]) -> Read<Head> {
    let lines = small_file(bytes, "filesync head 1")?;
    let generation = number(word(lines.first(), "generation")?)?;
    let commit = match word(lines.get(1), "head")? {
        "none" => None,
        id => Some(id_from_hex(id)?),
    };
    let mut open = Vec::new();
    for line in &lines[2..] {
        let words: Vec<&str> = word(Some(line), "open")?.split(' ').collect();
        let [name, class, mark] = words[..] else { return refuse("words of an open pack") };
        ensure(unhex(name)?.len() == 16, "name of a pack")?;
        let class = match class {
            "data" => 1,
            "meta" => 2,
            _ => return refuse("class of an open pack"),
        };
        open.push((name.to_owned(), class, number(mark)?));
    }
    ensure(open.is_sorted_by(|a, b| a.0 < b.0), "open packs out of order")?;
    Ok(Head { generation, commit, open })
}

fn expired_file(bytes: &[u8]) -> Read<Vec<Id>> {
    let lines = small_file(bytes, "filesync expired 1")?;
    let ids: Vec<Id> = lines.iter().map(|line| id_from_hex(word(Some(line), "commit")?)).collect::<Read<_>>()?;
    ensure(ids.is_sorted_by(|a, b| a < b), "expired commits out of order")?;
    Ok(ids)
}

// Section 2: packs.

struct PackHeader {
    class: u8,
    serial: u64,
    repository: Id,
    name: [u8; 16],
}

fn pack_header(bytes: &mut &[u8]) -> Read<PackHeader> {
    let mut header = take(bytes, 72)?;
    ensure(take(bytes, 16)? == check16(&[header]), "check of a pack header")?;
    let header = &mut header;
    ensure(take(header, 8)? == b"fspack\r\n", "magic of a pack")?;
    ensure(u8_of(header)? == 1, "version of a pack")?;
    let class = u8_of(header)?;
    ensure(class == 1 || class == 2, "class of a pack")?;
    only_zeros(header, 6)?;
    Ok(PackHeader { class, serial: u64_of(header)?, repository: array(header)?, name: array(header)? })
}

/// What a footer repeats of a frame.
#[derive(Debug, PartialEq)]
struct FrameTable {
    offset: u64,
    raw_len: u32,
    stored_len: u32,
    slots: Vec<(Id, u8, u32)>,
}

fn slots(bytes: &mut &[u8], count: u32) -> Read<Vec<(Id, u8, u32)>> {
    (0..count).map(|_| Ok((array(bytes)?, u8_of(bytes)?, u32_of(bytes)?))).collect()
}

/// One frame, its bytes taken from the front: the table, and the objects that were in it.
fn frame(bytes: &mut &[u8], class: u8, offset: u64) -> Read<(FrameTable, Vec<Vec<u8>>)> {
    let fixed = take(bytes, 40)?;
    let check_of_table = take(bytes, 16)?;
    let (mut rest, check_of_payload) = fixed.split_at_checked(24).ok_or("too short")?;
    let header = &mut rest;
    ensure(take(header, 4)? == b"FSfr", "magic of a frame")?;
    ensure(u8_of(header)? == 1, "version of a frame")?;
    let codec = u8_of(header)?;
    only_zeros(header, 2)?;
    let (raw_len, stored_len, count) = (u32_of(header)?, u32_of(header)?, u32_of(header)?);
    only_zeros(header, 4)?;
    ensure((1..=1 << 20).contains(&raw_len) && (1..=1 << 20).contains(&stored_len), "lengths of a frame")?;
    ensure((1..=4096).contains(&count), "objects of a frame")?;

    let mut table = take(bytes, size(count) * 37)?;
    ensure(check_of_table == check16(&[fixed, table]), "check of a frame's table")?;
    let payload = take(bytes, size(stored_len))?;
    ensure(check_of_payload == check16(&[payload]), "check of a frame's payload")?;

    let slots = slots(&mut table, count)?;
    let raw = match codec {
        0 => {
            ensure(raw_len == stored_len, "lengths of a raw frame")?;
            payload.to_vec()
        }
        1 => {
            ensure(stored_len < raw_len, "lengths of a compressed frame")?;
            zstd::bulk::decompress(payload, size(raw_len)).map_err(|error| error.to_string())?
        }
        _ => return refuse("unknown codec of a frame"),
    };
    ensure(raw.len() == size(raw_len), "length of a frame's payload")?;
    let (mut rest, mut objects) = (&raw[..], Vec::new());
    for (id, kind, len) in &slots {
        ensure((*kind == CHUNK) == (class == 1), "an object in a pack of the other class")?;
        let object = take(&mut rest, size(*len))?;
        ensure(id_of(*kind, object)? == *id, "an object does not have its id")?;
        objects.push(object.to_vec());
    }
    at_end(rest)?;
    Ok((FrameTable { offset, raw_len, stored_len, slots }, objects))
}

fn footer(mut bytes: &[u8]) -> Read<Vec<FrameTable>> {
    let bytes = &mut bytes;
    let count = u32_of(bytes)?;
    let mut frames = Vec::new();
    for _ in 0..count {
        let (offset, raw_len, stored_len, objects) = (u64_of(bytes)?, u32_of(bytes)?, u32_of(bytes)?, u32_of(bytes)?);
        frames.push(FrameTable { offset, raw_len, stored_len, slots: slots(bytes, objects)? });
    }
    at_end(bytes)?;
    Ok(frames)
}

/// Where the footer of a sealed pack begins, and what it says.
fn sealed_end(pack: &[u8]) -> Read<(usize, Vec<FrameTable>)> {
    let trailer_at = pack.len().checked_sub(40).ok_or("too short")?;
    let mut trailer = &pack[trailer_at..];
    let footer_len = size(u64_of(&mut trailer)?);
    only_zeros(&mut trailer, 8)?;
    let footer_at = trailer_at.checked_sub(footer_len).ok_or("length of a footer")?;
    ensure(take(&mut trailer, 16)? == check16(&[&pack[footer_at..trailer_at + 16]]), "check of a footer")?;
    ensure(trailer == b"fspkend\n", "magic of a trailer")?;
    Ok((footer_at, footer(&pack[footer_at..trailer_at])?))
}

/// All objects of a pack: of an open one up to its mark.
fn pack(bytes: &[u8], name: &str, repository: &Id, mark: Option<(u8, u64)>) -> Read<(u64, Objects)> {
    let (end, expected) = match mark {
        Some((_, mark)) => (size(mark), None),
        None => sealed_end(bytes).map(|(end, frames)| (end, Some(frames)))?,
    };
    let mut rest = bytes.get(..end).ok_or("shorter than its mark")?;
    let header = pack_header(&mut rest)?;
    ensure(header.repository == *repository, "a pack of another repository")?;
    ensure(hex(&header.name) == name, "a pack under another name")?;
    ensure(mark.is_none_or(|(class, _)| class == header.class), "a pack of another class than HEAD says")?;
    let (mut frames, mut stored) = (Vec::new(), Objects::new());
    while !rest.is_empty() {
        let offset = u64::try_from(end - rest.len()).expect("small");
        let (table, objects) = frame(&mut rest, header.class, offset)?;
        stored.extend(table.slots.iter().map(|&(id, kind, _)| (kind, id)).zip(objects));
        frames.push(table);
    }
    ensure(expected.is_none_or(|expected| expected == frames), "the footer and the frames disagree")?;
    Ok((header.serial, stored))
}

// Section 1: objects.

/// Files (everything that is no directory), directories, bytes.
type Totals = [u64; 3];

fn totals(bytes: &mut &[u8]) -> Read<Totals> {
    Ok([u64_of(bytes)?, u64_of(bytes)?, u64_of(bytes)?])
}

fn add(sum: &mut Totals, more: &Totals) -> Read<()> {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum = sum.checked_add(*more).ok_or("overflow of totals")?;
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum What {
    Empty,
    Chunk(Id),
    List(Id, u8),
    Symlink(Vec<u8>),
    Directory(Id, u8, Totals),
}

#[derive(Debug, Clone)]
struct Entry {
    name: Vec<u8>,
    mode: u16,
    mtime: (i64, u32),
    size: u64,
    what: What,
    attrs: Option<Id>,
}

/// An item of a node: its key and encoded length, for the cuts, and what it is.
struct Piece<T> {
    key: Vec<u8>,
    len: usize,
    item: T,
}

enum TreeNode {
    Entries(Vec<Piece<Entry>>),
    /// Id, entries, totals.
    Links(Vec<Piece<(Id, u64, Totals)>>),
}

fn name_of(bytes: &mut &[u8]) -> Read<Vec<u8>> {
    let len = u16_of(bytes)?;
    ensure((1..=255).contains(&len), "length of a name")?;
    let name = take(bytes, size(len))?;
    ensure(!name.contains(&b'/') && !name.contains(&0) && name != b"." && name != b"..", "a name that is a path")?;
    let shown: Vec<u8> = match std::str::from_utf8(name) {
        Ok(text) => {
            let shown: String = text.chars().filter(|&c| !is_default_ignorable(u32::from(c))).collect();
            shown.replace('\u{17F}', "s").replace('\u{FB01}', "fi").into_bytes()
        }
        Err(_) => name.to_vec(),
    };
    let end = shown.iter().rposition(|byte| !b" .".contains(byte)).map_or(0, |at| at + 1);
    ensure(!shown[..end].eq_ignore_ascii_case(b".filesync"), "a spelling of .filesync")?;
    ensure(!shown.to_ascii_lowercase().starts_with(b".filesync-tmp-"), "a name of a temporary file")?;
    Ok(name.to_vec())
}

fn is_default_ignorable(c: u32) -> bool {
    const RANGES: [(u32, u32); 17] = [
        (0xAD, 0xAD),
        (0x34F, 0x34F),
        (0x61C, 0x61C),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
        (0xFFA0, 0xFFA0),
        (0xFFF0, 0xFFF8),
        (0x1BCA0, 0x1BCA3),
        (0x1D173, 0x1D17A),
        (0xE0000, 0xE0FFF),
    ];
    RANGES.iter().any(|(from, to)| (*from..=*to).contains(&c))
}

fn mtime_of(bytes: &mut &[u8]) -> Read<(i64, u32)> {
    let time = (array(bytes).map(i64::from_le_bytes)?, u32_of(bytes)?);
    ensure(time.1 < 1_000_000_000, "nanoseconds")?;
    Ok(time)
}

fn entry(bytes: &mut &[u8]) -> Read<Entry> {
    let name = name_of(bytes)?;
    let (kind, flags, mode) = (u8_of(bytes)?, u8_of(bytes)?, u16_of(bytes)?);
    ensure(flags <= 1, "flags of an entry")?;
    ensure(mode <= 0o777, "mode of an entry")?;
    let (mut mtime, mut bytes_len) = ((0, 0), 0);
    let what = match kind {
        1 | 2 => {
            ensure((mode & 0o100 != 0) == (kind == 2), "executable or not")?;
            mtime = mtime_of(bytes)?;
            bytes_len = u64_of(bytes)?;
            match u8_of(bytes)? {
                0 if bytes_len == 0 => What::Empty,
                1 if (1..=1 << 20).contains(&bytes_len) => What::Chunk(array(bytes)?),
                2 if bytes_len >= 2 => What::List(array(bytes)?, u8_of(bytes)?),
                _ => return refuse("content of a file"),
            }
        }
        3 => {
            ensure(mode == 0, "mode of a symlink")?;
            mtime = mtime_of(bytes)?;
            let len = u16_of(bytes)?;
            ensure((1..=4095).contains(&len), "length of a target")?;
            let target = take(bytes, size(len))?.to_vec();
            ensure(!target.contains(&0), "NUL in a target")?;
            bytes_len = target.len() as u64;
            What::Symlink(target)
        }
        4 => What::Directory(array(bytes)?, u8_of(bytes)?, totals(bytes)?),
        _ => return refuse("kind of an entry"),
    };
    if let What::List(_, height) | What::Directory(_, height, _) = what {
        ensure(height <= 10, "height")?;
    }
    let attrs = if flags & 1 == 1 { Some(array(bytes)?) } else { None };
    Ok(Entry { name, mode, mtime, size: bytes_len, what, attrs })
}

/// Section 1.4. Returns the level, too.
fn tree_node(mut bytes: &[u8]) -> Read<(u8, TreeNode)> {
    let bytes = &mut bytes;
    ensure(u8_of(bytes)? == 1, "version of a tree")?;
    let level = u8_of(bytes)?;
    ensure(level <= 10, "level of a tree")?;
    only_zeros(bytes, 2)?;
    let count = u32_of(bytes)?;
    ensure(count <= 1024 && (count > 0 || level == 0), "count of a tree")?;
    let node = if level == 0 {
        let mut pieces = Vec::new();
        for _ in 0..count {
            let before = bytes.len();
            let item = entry(bytes)?;
            pieces.push(Piece { key: item.name.clone(), len: before - bytes.len(), item });
        }
        ensure(pieces.is_sorted_by(|a, b| a.key < b.key), "names out of order")?;
        TreeNode::Entries(pieces)
    } else {
        let mut pieces = Vec::new();
        for _ in 0..count {
            let before = bytes.len();
            let key = name_of(bytes)?;
            let item = (array(bytes)?, u64_of(bytes)?, totals(bytes)?);
            pieces.push(Piece { key, len: before - bytes.len(), item });
        }
        ensure(pieces.is_sorted_by(|a, b| a.key < b.key), "names out of order")?;
        TreeNode::Links(pieces)
    };
    at_end(bytes)?;
    Ok((level, node))
}

struct ListNode {
    level: u8,
    /// Size and BLAKE3 of the file.
    root: Option<(u64, Id)>,
    /// Id and bytes.
    items: Vec<(Id, u64)>,
}

/// Section 1.3.
fn list_node(mut bytes: &[u8]) -> Read<ListNode> {
    let bytes = &mut bytes;
    ensure(u8_of(bytes)? == 1, "version of a list")?;
    let (level, is_root) = (u8_of(bytes)?, u8_of(bytes)?);
    ensure(level <= 10 && is_root <= 1, "level or root of a list")?;
    only_zeros(bytes, 1)?;
    let count = u32_of(bytes)?;
    ensure((1 + u32::from(is_root)..=1024).contains(&count), "count of a list")?;
    let root = if is_root == 1 { Some((u64_of(bytes)?, array(bytes)?)) } else { None };
    let mut items = Vec::new();
    for at in 1..=count {
        let id = array(bytes)?;
        let len = if level == 0 { u64::from(u32_of(bytes)?) } else { u64_of(bytes)? };
        let least = if level > 0 || at == count { 1 } else { 1 << 10 };
        ensure(len >= least && (level > 0 || len <= 1 << 20), "length of an item of a list")?;
        items.push((id, len));
    }
    at_end(bytes)?;
    let sum = items.iter().try_fold(0_u64, |sum, item| sum.checked_add(item.1)).ok_or("overflow in a list")?;
    ensure(root.is_none_or(|(size, _)| size == sum), "size of a list")?;
    Ok(ListNode { level, root, items })
}

/// Section 1.5.
fn attrs(mut bytes: &[u8]) -> Read<BTreeMap<Vec<u8>, Vec<u8>>> {
    let bytes = &mut bytes;
    ensure(u8_of(bytes)? == 1, "version of attributes")?;
    only_zeros(bytes, 1)?;
    let count = u16_of(bytes)?;
    ensure((1..=1024).contains(&count), "count of attributes")?;
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for _ in 0..count {
        let len = u16_of(bytes)?;
        ensure((1..=255).contains(&len), "length of an attribute's name")?;
        let name = take(bytes, size(len))?.to_vec();
        ensure(name.starts_with(b"user.") && !name.contains(&0), "name of an attribute")?;
        let len = size(u32_of(bytes)?);
        pairs.push((name, take(bytes, len)?.to_vec()));
    }
    at_end(bytes)?;
    ensure(pairs.is_sorted_by(|a, b| a.0 < b.0), "attributes out of order")?;
    Ok(pairs.into_iter().collect())
}

struct Commit {
    parents: Vec<Id>,
    tree: Entry,
    author: String,
    message: String,
    node: Id,
    signature: [u8; 64],
    /// Everything before the signature.
    signed: Vec<u8>,
}

/// Section 1.6.
fn commit(object: &[u8]) -> Read<Commit> {
    let mut rest = object;
    let bytes = &mut rest;
    ensure(u8_of(bytes)? == 1, "version of a commit")?;
    let parent_count = u8_of(bytes)?;
    ensure(parent_count <= 8, "count of parents")?;
    only_zeros(bytes, 2)?;
    let parents: Vec<Id> = (0..parent_count).map(|_| array(bytes)).collect::<Read<_>>()?;
    ensure(parents.iter().enumerate().all(|(at, id)| !parents[..at].contains(id)), "a parent twice")?;
    let (root, height, sums) = (array(bytes)?, u8_of(bytes)?, totals(bytes)?);
    ensure(height <= 10, "height of a commit's tree")?;
    mtime_of(bytes)?;
    let len = u16_of(bytes)?;
    ensure((1..=1024).contains(&len), "length of an author")?;
    let author = String::from_utf8(take(bytes, size(len))?.to_vec()).map_err(|_| "author is not UTF-8")?;
    ensure(!author.chars().any(char::is_control), "control characters in an author")?;
    let len = u32_of(bytes)?;
    ensure(len <= 131_072, "length of a message")?;
    let message = String::from_utf8(take(bytes, size(len))?.to_vec()).map_err(|_| "message is not UTF-8")?;
    ensure(!message.contains('\0'), "NUL in a message")?;
    let node = array(bytes)?;
    let signed = object[..object.len() - bytes.len()].to_vec();
    let signature = array(bytes)?;
    at_end(bytes)?;
    let what = What::Directory(root, height, sums);
    let tree = Entry { name: Vec::new(), mode: 0, mtime: (0, 0), size: 0, what, attrs: None };
    Ok(Commit { parents, tree, author, message, node, signature, signed })
}

fn verify_signature(commit: &Commit, repository: &Id) -> Read<()> {
    let message = [b"filesync commit signature v1\0", &repository[..], &commit.signed].concat();
    let key = ed25519_dalek::VerifyingKey::from_bytes(&commit.node).map_err(|error| error.to_string())?;
    let signature = ed25519_dalek::Signature::from_bytes(&commit.signature);
    key.verify_strict(&message, &signature).map_err(|error| error.to_string())
}

/// Section 1.7. The ref and the commit that it is to name.
fn publish(mut bytes: &[u8]) -> Read<(String, Option<Id>)> {
    let bytes = &mut bytes;
    ensure(u8_of(bytes)? == 1, "version of a pub")?;
    let flags = u8_of(bytes)?;
    ensure(flags < 8, "flags of a pub")?;
    let len = u16_of(bytes)?;
    ensure((1..=255).contains(&len), "length of a ref")?;
    let name = String::from_utf8(take(bytes, size(len))?.to_vec()).map_err(|_| "a ref is not UTF-8")?;
    u64_of(bytes)?;
    let mut ids = [None; 3];
    for (bit, id) in ids.iter_mut().enumerate() {
        if flags >> bit & 1 == 1 {
            *id = Some(array(bytes)?);
        }
    }
    at_end(bytes)?;
    Ok((name, ids[1]))
}

// Section 1.2, over a whole sequence.

/// The number of items of each node that a level is cut into; `items` are keys and encoded lengths.
fn cuts(level: u8, items: &[(&[u8], usize)]) -> Vec<usize> {
    if items.len() <= 512 && items.iter().map(|item| item.1).sum::<usize>() <= 65_536 {
        return vec![items.len()];
    }
    let (mut nodes, mut count, mut bytes) = (Vec::new(), 0, 0);
    for (key, len) in items {
        if bytes + len > 262_080 {
            nodes.push(std::mem::take(&mut count));
            bytes = 0;
        }
        count += 1;
        bytes += len;
        let is_boundary = || blake3::derive_key("filesync node boundary v1", &[&[level], *key].concat())[0] == 0;
        if count == 1024 || (count >= 64 && is_boundary()) {
            nodes.push(std::mem::take(&mut count));
            bytes = 0;
        }
    }
    nodes.extend((count > 0).then_some(count));
    nodes
}

/// The pieces of one level, node by node.
fn check_cuts<T>(level: u8, nodes: &[Vec<Piece<T>>]) -> Read<()> {
    let items: Vec<(&[u8], usize)> = nodes.iter().flatten().map(|piece| (&piece.key[..], piece.len)).collect();
    ensure(nodes.iter().map(Vec::len).eq(cuts(level, &items)), "a level is not cut by the rule")
}

// Walks.

pub struct Repository {
    format: Format,
    head: Head,
    stored: Objects,
    expired: Vec<Id>,
    /// File names in `packs/` that were read.
    packs: Vec<String>,
}

fn repository(dir: &Path) -> Read<Repository> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let format = format_file(&read(&dir.join("format"))?)?;
    let head = head_file(&read(&dir.join("HEAD"))?)?;
    let mut names: Vec<String> = std::fs::read_dir(dir.join("packs"))
        .map_err(|error| error.to_string())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let (mut serials, mut stored, mut packs) = (Vec::new(), Objects::new(), Vec::new());
    for name in names {
        let mark = |stem: &str| head.open.iter().find(|open| open.0 == stem).map(|open| (open.1, open.2));
        let (stem, mark) = match name.split_once('.') {
            Some((stem, "pack")) => (stem, None),
            // An open pack without a mark is a torn tail as a whole.
            Some((stem, "open")) if mark(stem).is_some() => (stem, mark(stem)),
            _ => continue,
        };
        let bytes = read(&dir.join("packs").join(&name))?;
        let (serial, objects) =
            pack(&bytes, stem, &format.repository, mark).map_err(|error| format!("{name}: {error}"))?;
        serials.push(serial);
        stored.extend(objects);
        packs.push(name);
    }
    serials.sort_unstable();
    ensure(serials.is_sorted_by(|a, b| a < b), "two packs with one serial")?;
    for open in &head.open {
        ensure(packs.iter().any(|name| name.starts_with(&open.0)), "a pack with a mark is missing")?;
    }
    let expired = match dir.join("expired") {
        file if file.exists() => expired_file(&read(&file)?)?,
        _ => Vec::new(),
    };
    Ok(Repository { format, head, stored, expired, packs })
}

fn object<'a>(stored: &'a Objects, kind: u8, id: &Id) -> Read<&'a [u8]> {
    stored.get(&(kind, *id)).map(Vec::as_slice).ok_or_else(|| format!("object {} of kind {kind} is missing", hex(id)))
}

/// The entries of a directory, from the id of its root node.
fn directory(stored: &Objects, id: &Id, height: u8, expected: &Totals) -> Read<Vec<Entry>> {
    // What the level above says about each node: id, last name, entries, totals.
    let mut wanted = vec![(*id, None, None, *expected)];
    let mut counts: Vec<(u64, Option<u64>)> = Vec::new();
    for level in (1..=height).rev() {
        let mut nodes = Vec::new();
        for (id, last, entries, sums) in &wanted {
            let (TreeNode::Links(pieces), found) = swap(tree_node(object(stored, TREE, id)?)?) else {
                return refuse("a node is on another level");
            };
            ensure(found == level, "a node is on another level")?;
            ensure(level < height || pieces.len() >= 2, "a root with one link")?;
            check_last(last.as_ref(), pieces.last().map(|piece| &piece.key))?;
            let mut sum = Totals::default();
            pieces.iter().try_for_each(|piece| add(&mut sum, &piece.item.2))?;
            ensure(sum == *sums, "totals of links")?;
            counts.push((pieces.iter().map(|piece| piece.item.1).sum(), *entries));
            nodes.push(pieces);
        }
        check_cuts(level, &nodes)?;
        let below = nodes.into_iter().flatten();
        wanted = below.map(|piece| (piece.item.0, Some(piece.key), Some(piece.item.1), piece.item.2)).collect();
    }
    let mut nodes = Vec::new();
    for (id, last, entries, sums) in &wanted {
        let (TreeNode::Entries(pieces), _) = swap(tree_node(object(stored, TREE, id)?)?) else {
            return refuse("a node is on another level");
        };
        check_last(last.as_ref(), pieces.last().map(|piece| &piece.key))?;
        let mut sum = Totals::default();
        for Piece { item, .. } in &pieces {
            match &item.what {
                What::Directory(_, _, below) => {
                    add(&mut sum, below)?;
                    add(&mut sum, &[0, 1, 0])?;
                }
                What::Symlink(_) => add(&mut sum, &[1, 0, 0])?,
                _ => add(&mut sum, &[1, 0, item.size])?,
            }
        }
        ensure(sum == *sums, "totals of a directory")?;
        counts.push((pieces.len() as u64, *entries));
        nodes.push(pieces);
    }
    check_cuts(0, &nodes)?;
    ensure(counts.iter().all(|(found, said)| said.is_none_or(|said| said == *found)), "count of entries")?;
    let entries: Vec<Entry> = nodes.into_iter().flatten().map(|piece| piece.item).collect();
    ensure(entries.is_sorted_by(|a, b| a.name < b.name), "names out of order across nodes")?;
    Ok(entries)
}

fn swap((level, node): (u8, TreeNode)) -> (TreeNode, u8) {
    (node, level)
}

fn check_last(said: Option<&Vec<u8>>, found: Option<&Vec<u8>>) -> Read<()> {
    ensure(said.is_none() || said == found, "the last name of a node")
}

/// The chunks of a file that has a list.
fn chunks(stored: &Objects, id: &Id, height: u8, bytes: u64) -> Read<(Vec<(Id, u64)>, Id)> {
    let (mut wanted, mut whole) = (vec![(*id, bytes)], None);
    for level in (0..=height).rev() {
        let mut nodes = Vec::new();
        for (id, bytes) in &wanted {
            let node = list_node(object(stored, LIST, id)?)?;
            ensure(node.level == level && node.root.is_some() == (level == height), "a list node is out of place")?;
            ensure(node.items.iter().map(|item| item.1).sum::<u64>() == *bytes, "sum of a list node")?;
            whole = whole.or(node.root.map(|root| root.1));
            let len = if level == 0 { 36 } else { 40 };
            nodes.push(node.items.into_iter().map(|item| Piece { key: item.0.to_vec(), len, item }).collect());
        }
        check_cuts(level, &nodes)?;
        wanted = nodes.into_iter().flatten().map(|piece| piece.item).collect();
    }
    Ok((wanted, whole.expect("the root was read")))
}

/// The bytes of a file; the number of its chunks, each with its length.
fn file(stored: &Objects, entry: &Entry) -> Read<(Vec<u8>, Vec<u64>)> {
    let (chunks, whole) = match &entry.what {
        What::Empty => return Ok((Vec::new(), Vec::new())),
        What::Chunk(id) => (vec![(*id, entry.size)], *id),
        What::List(id, height) => chunks(stored, id, *height, entry.size)?,
        _ => return refuse("not a file"),
    };
    let mut bytes = Vec::new();
    for (id, len) in &chunks {
        let chunk = object(stored, CHUNK, id)?;
        ensure(chunk.len() as u64 == *len, "length of a chunk")?;
        bytes.extend_from_slice(chunk);
    }
    ensure(blake3::hash(&bytes) == whole, "BLAKE3 of a whole file")?;
    Ok((bytes, chunks.iter().map(|chunk| chunk.1).collect()))
}

type Attrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Everything below a commit: as [`model::read_tree`] gives it, the attributes, and how files are cut.
#[derive(Default)]
pub struct Contents {
    tree: model::Tree,
    attrs: BTreeMap<Vec<u8>, Attrs>,
    chunk_lens: BTreeMap<Vec<u8>, Vec<u64>>,
}

fn contents(stored: &Objects, root: &Entry) -> Read<Contents> {
    let mut found = Contents::default();
    let mut open = vec![(Vec::new(), root.clone())];
    while let Some((path, entry)) = open.pop() {
        if let Some(id) = &entry.attrs {
            found.attrs.insert(path.clone(), attrs(object(stored, ATTRS, id)?)?);
        }
        let item = match &entry.what {
            What::Directory(id, height, sums) => {
                for child in directory(stored, id, *height, sums)? {
                    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                    open.push(([&path, slash, &child.name].concat(), child));
                }
                Item::Directory(entry.mode.into())
            }
            What::Symlink(target) => Item::Symlink(target.clone()),
            _ => {
                let (bytes, lens) = file(stored, &entry)?;
                found.chunk_lens.insert(path.clone(), lens);
                Item::File(entry.mode.into(), (entry.mtime.0, entry.mtime.1.into()), bytes)
            }
        };
        if !path.is_empty() {
            found.tree.insert(path, item);
        }
    }
    Ok(found)
}

// Tests.

/// Bytes that do not shrink and are the same every time.
pub fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Sets an attribute of a file; false if the file system has none.
pub fn set_attr(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).is_ok()
}

/// A tree with something of everything that the format can say.
fn fill(world: &World) -> bool {
    world.write("a file", "a few words\n");
    world.write("empty", "");
    world.write("with/directories/in/between", "x");
    world.write(std::ffi::OsStr::from_bytes(b"with/not UTF-8 \xff\n"), [0, 255]);
    world.write("with/run.sh", "#!/bin/sh\n");
    chmod(world, "with/run.sh", "0751");
    chmod(world, "empty", "0400");
    std::fs::create_dir_all(world.path("with/nothing/inside")).expect("directories can be made");
    chmod(world, "with/nothing", "0700");
    std::os::unix::fs::symlink("../no such target", world.path("with/link")).expect("a link can be made");
    world.write("large/noise", noise("large", 3_000_000));
    world.write("large/text", "the same line again and again\n".repeat(70_000));
    let hole = std::fs::File::create(world.path("large/hole")).expect("a file can be made");
    hole.set_len(5_000_000).expect("a hole can be made");
    for number in 0..4000 {
        world.write(format!("many/file-{number:05}"), format!("{}", number % 100));
    }
    // Few entries, but more than 64 KiB of them: cut by the length of what it encodes.
    for number in 0..400 {
        world.write(format!("long names/{}{number:05}", "n".repeat(200)), "");
    }
    set_attr(&world.path("a file"), "user.comment", b"a comment")
        && set_attr(&world.path("a file"), "user.empty", b"")
        && set_attr(&world.path("with/run.sh"), "user.bytes", &[0, 1, 2])
}

fn chmod(world: &World, path: &str, mode: &str) {
    assert!(Command::new("chmod").arg(mode).arg(world.path(path)).status().expect("chmod runs").success());
}

/// The working copy and every commit, as the document says; what the head holds.
#[track_caller]
pub fn check(world: &World) -> (Repository, Contents) {
    let repo = repository(&world.path(".filesync")).expect("a repository as the page describes it");
    let mut found = None;
    let mut next = repo.head.commit;
    while let Some(id) = next {
        let commit = object(&repo.stored, COMMIT, &id).and_then(commit).expect("a commit");
        verify_signature(&commit, &repo.format.repository).expect("its node signed it");
        if !repo.expired.contains(&id) {
            let contents = contents(&repo.stored, &commit.tree).expect("everything below it");
            found.get_or_insert(contents);
        }
        next = commit.parents.first().copied();
    }
    let found = found.expect("there is a commit");

    let actual = model::read_tree(world.root());
    assert!(actual.keys().eq(found.tree.keys()), "other paths");
    for (path, item) in &actual {
        let path_shown = String::from_utf8_lossy(path);
        assert!(*item == found.tree[path], "{path_shown:?} is another");
        if let Item::File(_, _, bytes) = item {
            assert_eq!(found.chunk_lens[path], cut(bytes, repo.format.chunk_sizes), "cuts of {path_shown:?}");
        }
    }
    (repo, found)
}

/// Section 1.1.
fn cut(bytes: &[u8], [min, avg, max]: [u32; 3]) -> Vec<u64> {
    if bytes.len() <= size(min) {
        return if bytes.is_empty() { Vec::new() } else { vec![bytes.len() as u64] };
    }
    let cutter = fastcdc::v2020::FastCDC::new(bytes, size(min), size(avg), size(max));
    cutter.map(|chunk| chunk.length as u64).collect()
}

fn everything_is_read(chunk_size: &str) -> (Repository, Contents) {
    let world = World::empty();
    let has_attrs = fill(&world);
    world.ok(&["init", "--chunk-size", chunk_size]);
    world.ok(&["commit", "-m", "first"]);
    check(&world);

    // Open packs go on, and a large directory and a large file change in the middle.
    world.write("many/file-01234", "changed");
    std::fs::remove_file(world.path("many/file-02345")).expect("it is there");
    let mut bytes = noise("large", 3_000_000);
    bytes.splice(1_500_000..1_500_000, *b"inserted");
    world.write("large/noise", bytes);
    world.ok(&["commit", "-m", "second", "--author", "Zoë <z@example.org>"]);
    world.write("third", "3");
    world.ok(&["commit", "-m", "third\n\nwith more lines"]);
    let (repo, found) = check(&world);

    assert_eq!(repo.head.generation, 3, "init writes generation 0, each commit adds one");
    let head = object(&repo.stored, COMMIT, &repo.head.commit.unwrap()).and_then(commit).unwrap();
    assert!(head.message.starts_with("third"), "{}", head.message);
    assert!(!head.author.is_empty());
    if has_attrs {
        assert_eq!(found.attrs[&b"a file"[..]].len(), 2);
        assert_eq!(found.attrs[&b"with/run.sh"[..]][&b"user.bytes"[..]], [0, 1, 2]);
        assert_eq!(found.attrs.len(), 2);
    } else {
        skipped("this file system has no extended attributes");
    }

    // What is not part of the repository does not matter: a torn tail, an open pack without mark, other files.
    let packs = world.path(".filesync/packs");
    for name in &repo.packs {
        let mut bytes = std::fs::read(packs.join(name)).unwrap();
        bytes.extend_from_slice(b"FSfr torn");
        std::fs::write(packs.join(name), bytes).unwrap();
    }
    std::fs::write(packs.join(format!("{}.open", "0".repeat(32))), "fspack").unwrap();
    std::fs::write(packs.join("README"), "not a pack").unwrap();
    check(&world);
    world.ok(&["fsck"]);
    (repo, found)
}

#[test]
fn a_repository_is_as_the_document_says() {
    let (repo, found) = everything_is_read("64KiB");
    let root = object(&repo.stored, COMMIT, &repo.head.commit.unwrap()).and_then(commit).unwrap().tree;
    let What::Directory(id, height, sums) = root.what else { unreachable!() };
    let many = directory(&repo.stored, &id, height, &sums).unwrap();
    let many = many.iter().find(|entry| entry.name == b"many").unwrap();
    assert!(matches!(many.what, What::Directory(_, 1, _)), "4000 entries are more than one node: {many:?}");
    assert!(found.chunk_lens[&b"large/noise"[..]].len() > 20);
}

#[test]
fn small_chunks_give_lists_of_two_levels() {
    let (_, found) = everything_is_read("4KiB");
    assert!(found.chunk_lens[&b"large/noise"[..]].len() > 512, "a list of more than one node");
}

#[test]
fn without_compression() {
    let world = World::empty();
    world.write("a", "a".repeat(100_000));
    world.ok(&["init", "--no-compression"]);
    world.ok(&["commit", "-m", "first"]);
    check(&world);
    let format = std::fs::read_to_string(world.path(".filesync/format")).unwrap();
    assert!(format.contains("\ncodec none\n"), "{format}");
}

/// What `forget` and `gc` leave: history is whole, and of what has expired nothing is needed.
#[test]
fn what_is_left_by_keeping_house_is_as_the_document_says() {
    let world = World::repository();
    for number in 0..6 {
        world.write("a file", noise(&number.to_string(), 200_000));
        world.write(format!("directory/{number}"), number.to_string());
        world.ok(&["commit", "-m", "one more"]);
    }
    let before = repository(&world.path(".filesync")).unwrap();
    world.ok(&["forget", "--keep-last", "2"]);
    world.ok(&["gc"]);
    let (repo, _) = check(&world);
    assert_eq!(repo.expired.len(), 4);
    assert!(repo.packs.iter().all(|name| !before.packs.contains(name)), "everything was rewritten");
    let (left, had) = (repo.stored.len(), before.stored.len());
    assert!(left < had && left > had / 4, "{left} of {had} objects");
    assert_eq!(repo.stored.keys().filter(|(kind, _)| *kind == COMMIT).count(), 6, "history stays");
    // What is condemned is none of the store's.
    let packs = world.path(".filesync/packs");
    std::fs::write(packs.join(format!("{}.condemned", "0".repeat(32))), "fspack").unwrap();
    check(&world);
    world.ok(&["commit", "--allow-empty", "-m", "and on"]);
    check(&world);
}

/// Seals an open pack by hand, as the page says (section 2.2); its index is then out of date.
pub fn seal(pack: &Path) {
    let bytes = std::fs::read(pack).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut footer, mut count, mut at) = (Vec::new(), 0_u32, 88);
    while at < bytes.len() {
        assert_eq!(&bytes[at..at + 4], b"FSfr");
        let (stored, objects) = (u32_at(at + 12) as usize, u32_at(at + 16) as usize);
        footer.extend((at as u64).to_le_bytes());
        footer.extend(&bytes[at + 8..at + 20]);
        footer.extend(&bytes[at + 56..at + 56 + 37 * objects]);
        at += 56 + 37 * objects + stored;
        count += 1;
    }
    assert_eq!(at, bytes.len());
    footer.splice(0..0, count.to_le_bytes());
    let mut trailer = (footer.len() as u64).to_le_bytes().to_vec();
    trailer.extend([0; 8]);
    let check = check16(&[&footer, &trailer]);
    trailer.extend(check);
    trailer.extend(b"fspkend\n");
    std::fs::write(pack.with_extension("pack"), [bytes, footer, trailer].concat()).unwrap();
    std::fs::remove_file(pack).unwrap();
}

/// What is sealed by the page alone is a sealed pack for the program, and for the second reader. That the program seals
/// as the page says, too, takes 270 MB that do not shrink: in the long run.
#[test]
fn a_sealed_pack_is_as_the_document_says() {
    let world = World::repository();
    world.write("noise", noise("sealed", 2_000_000));
    world.write("directory/text", "the same line again and again\n".repeat(3000));
    world.ok(&["commit", "-m", "first"]);
    for pack in std::fs::read_dir(world.path(".filesync/packs")).unwrap() {
        seal(&pack.unwrap().path());
    }
    let (repo, _) = check(&world);
    assert_eq!(repo.packs.len(), 2, "one of data, one of metadata: {:?}", repo.packs);
    assert!(repo.packs.iter().all(|name| name.ends_with(".pack")), "{:?}", repo.packs);
    let tree = model::read_tree(world.root());
    for index in ["as it was", "made anew"] {
        assert_eq!(world.object(0, &["fsck"])["notes"], serde_json::json!([]), "an index {index}");
        model::assert_same(&tree, &world.restored("HEAD"), index);
        if index == "as it was" {
            std::fs::remove_dir_all(world.path(".filesync/index")).unwrap();
        }
    }
    world.write("one more", "x");
    world.ok(&["commit", "-m", "second"]);
    let (repo, _) = check(&world);
    assert_eq!(repo.packs.len(), 4, "new ones beside them: {:?}", repo.packs);

    if is_long() {
        for number in 0..6 {
            world.write(format!("noise-{number}"), noise(&number.to_string(), 50_000_000));
        }
        world.ok(&["commit", "-m", "third"]);
        world.write("one more", "y");
        world.ok(&["commit", "-m", "fourth"]);
        let (repo, _) = check(&world);
        let sealed = repo.packs.iter().filter(|name| name.ends_with(".pack")).count();
        assert!(sealed > 2, "a pack that the program has sealed among {:?}", repo.packs);
    }
}

// Vectors.

/// The files that the vectors show, built by hand from the page.
fn file_vectors() -> Vec<(&'static str, Vec<u8>)> {
    let repository = [0x11; 32];
    let lines = |body: &str| format!("{body}check {}\n", hex(&check16(&[body.as_bytes()]))).into_bytes();
    let format = format!(
        "filesync 1\nrepository {}\nchunker fastcdc-v2020 16384 65536 262144\ncodec zstd 3\nread:\nwrite:\n",
        hex(&repository)
    );
    let (data, meta) = ([0x22; 16], [0x33; 16]);
    let (hello, tree) = (&b"hello, world\n"[..], &[1, 0, 0, 0, 0, 0, 0, 0][..]);
    let header = |class: u8, serial: u64, name: &[u8]| {
        let mut bytes = [b"fspack\r\n", &[1, class, 0, 0, 0, 0, 0, 0], &serial.to_le_bytes()[..]].concat();
        bytes.extend_from_slice(&repository);
        bytes.extend_from_slice(name);
        let check = check16(&[&bytes]);
        bytes.extend_from_slice(&check);
        bytes
    };
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("small").to_le_bytes();
    let table = |objects: &[(u8, &[u8])]| -> Vec<u8> {
        let slot = |&(kind, bytes): &(u8, &[u8])| [&id_of(kind, bytes).unwrap()[..], &[kind], &len(bytes)].concat();
        objects.iter().flat_map(slot).collect()
    };
    let frame = |codec: u8, raw: &[u8], payload: &[u8], table: &[u8]| {
        let mut fixed = b"FSfr".to_vec();
        fixed.extend_from_slice(&[1, codec, 0, 0]);
        fixed.extend_from_slice(&[len(raw), len(payload), [u8::try_from(table.len() / 37).unwrap(), 0, 0, 0]].concat());
        fixed.extend_from_slice(&[0; 4]);
        fixed.extend_from_slice(&check16(&[payload]));
        let check = check16(&[&fixed, table]);
        [&fixed, &check[..], table, payload].concat()
    };
    // A compressed frame of 1000 times `a` and 500 times `b`; the payload is fixed, since compressors change.
    let repeated = [vec![b'a'; 1000], vec![b'b'; 500]];
    let raw = repeated.concat();
    let payload = unhex(ZSTD_PAYLOAD).expect("hex");
    let table_of_repeated = table(&[(CHUNK, &repeated[0]), (CHUNK, &repeated[1])]);
    let first = frame(0, hello, hello, &table(&[(CHUNK, hello)]));
    let second = frame(1, &raw, &payload, &table_of_repeated);
    let open = [header(2, 2, &meta), frame(0, tree, tree, &table(&[(TREE, tree)]))].concat();

    let mut footer = 2_u32.to_le_bytes().to_vec();
    footer.extend_from_slice(&88_u64.to_le_bytes());
    footer.extend_from_slice(&[len(hello), len(hello), [1, 0, 0, 0]].concat());
    footer.extend_from_slice(&table(&[(CHUNK, hello)]));
    footer.extend_from_slice(&(88 + first.len() as u64).to_le_bytes());
    footer.extend_from_slice(&[len(&raw), len(&payload), [2, 0, 0, 0]].concat());
    footer.extend_from_slice(&table_of_repeated);
    let mut end = [&footer[..], &(footer.len() as u64).to_le_bytes(), &[0; 8]].concat();
    let check = check16(&[&end]);
    end.extend_from_slice(&check);
    end.extend_from_slice(b"fspkend\n");

    let head = format!(
        "filesync head 1\ngeneration 7\nhead none\nopen {} data 88\nopen {} meta {}\n",
        hex(&[0x22; 16]),
        hex(&meta),
        open.len()
    );
    let expired = format!("filesync expired 1\ncommit {}\ncommit {}\n", hex(&[0x55; 32]), hex(&[0x66; 32]));
    let sealed = [header(1, 1, &data), first.clone(), second.clone(), end].concat();
    let mut all = vec![("format", lines(&format)), ("HEAD", lines(&head)), ("expired", lines(&expired))];
    all.extend(small::vectors().into_iter().map(|(name, body)| (name, lines(&body))));
    all.extend([
        ("pack header", header(1, 1, &data)),
        ("frame, raw", first),
        ("frame, zstd", second),
        ("open pack, metadata", open),
        ("sealed pack, data", sealed),
    ]);
    all
}

const ZSTD_PAYLOAD: &str = "28b52ffd60dc046d0000186161620200f04015e32b8005";

fn vectors() -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(vectors_path()).expect("the vectors are there");
    serde_json::from_str(&text).expect("a list of objects")
}

fn vectors_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/vectors.json")
}

#[track_caller]
fn bytes_of(vector: &serde_json::Value) -> Vec<u8> {
    unhex(vector["hex"].as_str().expect("hex")).expect("hex")
}

#[test]
fn vectors_of_objects_are_understood() {
    let mut kinds = [false; 7];
    let mut entries = Vec::new();
    for vector in vectors().iter().filter(|vector| vector.get("object").is_some()) {
        let bytes = bytes_of(vector);
        let kind = match vector["kind"].as_str().expect("a kind") {
            "chunk" => CHUNK,
            "list" => list_node(&bytes).map(|_| LIST).unwrap(),
            "tree" => {
                if let (_, TreeNode::Entries(pieces)) = tree_node(&bytes).unwrap() {
                    entries.extend(pieces.into_iter().map(|piece| piece.item));
                }
                TREE
            }
            "commit" => commit(&bytes).map(|_| COMMIT).unwrap(),
            "pub" => publish(&bytes).map(|_| PUB).unwrap(),
            "attrs" => attrs(&bytes).map(|_| ATTRS).unwrap(),
            other => panic!("unknown kind {other}"),
        };
        kinds[usize::from(kind)] = true;
        assert_eq!(hex(&id_of(kind, &bytes).unwrap()), vector["id"].as_str().unwrap(), "{}", vector["object"]);
        if kind != CHUNK {
            let decodes = |bytes: &[u8]| match kind {
                LIST => list_node(bytes).is_ok(),
                TREE => tree_node(bytes).is_ok(),
                COMMIT => commit(bytes).is_ok(),
                PUB => publish(bytes).is_ok(),
                _ => attrs(bytes).is_ok(),
            };
            assert!(
                !decodes(&bytes[..bytes.len() - 1]) && !decodes(&[&bytes[..], &[0]].concat()),
                "lengths are strict"
            );
        }
    }
    assert_eq!(kinds[1..], [true; 6], "every kind has a vector");
    assert!(entries.len() >= 6, "every kind of entry has a vector");
}

/// Section 3.1: the vectors of the journal belong to the entries of the leaf with every kind of entry.
#[test]
fn vectors_of_the_journal_are_understood() {
    let vectors = vectors();
    let leaf = vectors.iter().find(|vector| vector["object"] == "tree: a leaf with every kind of entry").unwrap();
    let bytes = bytes_of(leaf);
    let mut rest = &bytes[8..];
    let mut ids = Vec::new();
    while !rest.is_empty() {
        let before = rest;
        let entry = entry(&mut rest).unwrap();
        let mut encoded = before[2 + entry.name.len()..before.len() - rest.len()].to_vec();
        if !matches!(entry.what, What::Directory(..)) {
            encoded[4..16].fill(0);
        }
        let id = blake3::derive_key("filesync journal v1", &[&[0, 0], &encoded[..]].concat());
        ids.push(hex(&id[..16]));
    }
    let mut expected: Vec<_> = vectors.iter().filter(|vector| vector.get("journal id").is_some()).collect();
    assert!(!expected.is_empty());
    expected.retain(|vector| !ids.iter().any(|id| vector["id"] == **id));
    assert!(expected.is_empty(), "not found: {expected:?}");
}

#[test]
fn vectors_of_boundaries_are_understood() {
    let vectors = vectors();
    let boundaries: Vec<_> = vectors.iter().filter(|vector| vector.get("boundary").is_some()).collect();
    assert!(!boundaries.is_empty());
    for vector in boundaries {
        let level = u8::try_from(vector["level"].as_u64().unwrap()).unwrap();
        let key = vector["boundary"].as_str().unwrap();
        let hash = blake3::derive_key("filesync node boundary v1", &[&[level], key.as_bytes()].concat());
        assert_eq!(hex(&hash[..1]), vector["first byte"].as_str().unwrap());
    }
}

/// `FILESYNC_UPDATE_VECTORS=1` writes the lines of files; those of objects are written by the tests of `merkle`.
#[test]
fn vectors_of_files_are_understood() {
    let file_line = |(what, bytes): &(&str, Vec<u8>)| format!(r#"{{"file": "{what}", "hex": "{}"}}"#, hex(bytes));
    let lines: Vec<String> = file_vectors().iter().map(file_line).collect();
    let old = std::fs::read_to_string(vectors_path()).unwrap();
    if std::env::var_os("FILESYNC_UPDATE_VECTORS").is_some() {
        let others = old.lines().map(|line| line.trim_end_matches(','));
        let others = others.filter(|line| line.starts_with('{') && !line.starts_with("{\"file\""));
        let all: Vec<&str> = others.chain(lines.iter().map(String::as_str)).collect();
        std::fs::write(vectors_path(), format!("[\n{}\n]\n", all.join(",\n"))).unwrap();
    }
    let text = std::fs::read_to_string(vectors_path()).unwrap();
    assert!(lines.iter().all(|line| text.contains(line)), "the vectors are not what the page says");

    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format.md");
    let page = std::fs::read_to_string(page).expect("docs/format.md can be read");
    let table = page.lines().skip_while(|line| *line != "| file | lines |").skip(2);
    let rows = table.map_while(|line| line.strip_prefix("| `")?.split('`').next()).collect::<Vec<_>>();
    assert!(rows.len() >= 14, "the files of section 3: {rows:?}");
    for row in rows {
        assert!(file_vectors().iter().any(|(what, _)| *what == row), "{row} has no vector");
    }

    let repository = [0x11; 32];
    for (what, bytes) in file_vectors() {
        let read = |bytes: &[u8]| -> Read<()> {
            match what {
                "format" => format_file(bytes).map(drop),
                "HEAD" => head_file(bytes).map(drop),
                "expired" => expired_file(bytes).map(drop),
                "pack header" => pack_header(&mut &*bytes).map(drop),
                "frame, raw" | "frame, zstd" => frame(&mut &*bytes, 1, 0).map(drop),
                "open pack, metadata" => pack(bytes, &"33".repeat(16), &repository, Some((2, 189))).map(drop),
                "sealed pack, data" => pack(bytes, &"22".repeat(16), &repository, None).map(drop),
                name => small::read(name, bytes).unwrap_or_else(|| panic!("{name}: what is it?")),
            }
        };
        read(&bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        // No byte is uncovered.
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            assert!(read(&damaged).is_err(), "{what}: a flipped bit in byte {at} goes unnoticed");
            assert!(read(&bytes[..at]).is_err(), "{what}: its first {at} bytes are taken for all");
        }
    }
}
