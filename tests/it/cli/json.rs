//! `docs/json.md`, held against what every command prints: no field is missing, none is unknown, none is of another type;
//! and no command is left out.

mod rarer;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use filesync_tests::process::address;
use filesync_tests::world::{World, is_root};
use serde_json::{Map, Value};

use super::{is_id, is_time};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Type {
    Null,
    Text,
    Number,
    Seconds,
    Bool,
    Id,
    Time,
    Mode,
    Path,
    Word(String),
    List(Box<Type>),
    Object(String),
}

#[derive(Debug)]
struct Field {
    name: String,
    is_optional: bool,
    types: Vec<Type>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    One,
    Lines,
    Nothing,
    /// Only part of others.
    Nested,
}

#[derive(Debug)]
struct Section {
    form: Form,
    fields: Vec<Field>,
}

/// The page, by heading.
struct Page {
    sections: BTreeMap<String, Section>,
    /// What some output had: section, field, and which of its types. A list counts that has something in it.
    seen: BTreeSet<(String, String, String)>,
}

/// What no run of the program here comes to: section, field, type.
const UNSEEN: [(&str, &str, &str); 12] = [
    // Of formats that are not there yet.
    ("log", "signature", "\"unknown\""),
    ("show", "signature", "\"unknown\""),
    ("sync", "outcome", "\"refused\""),
    // Where it cannot be known, the tree cannot be either, and there is no result.
    ("show", "expired", "null"),
    // Of answers that are lost, or of files that come in the last moment.
    ("sync", "outcome", "\"unknown\""),
    ("sync", "skipped", "list of path"),
    ("clone", "skipped", "list of path"),
    // Always empty.
    ("clone", "published", "list of id"),
    ("clone", "waiting", "list of id"),
    ("clone", "conflicts", "list of path"),
    // The command line always gives a time.
    ("invite", "expires", "null"),
    ("invite list", "expires", "null"),
];

/// As the page has it.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "\"{word}\""),
            Self::List(of) => write!(f, "list of {of}"),
            Self::Object(name) => f.write_str(name),
            other => f.write_str(&format!("{other:?}").to_lowercase()),
        }
    }
}

fn parse_type(text: &str) -> Type {
    if let Some(of) = text.strip_prefix("list of ") {
        return Type::List(Box::new(parse_type(of)));
    }
    // A link to the section of that name.
    if let Some((name, _)) = text.strip_prefix('[').and_then(|rest| rest.split_once("](#")) {
        return Type::Object(name.to_owned());
    }
    if let Some(word) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return Type::Word(word.to_owned());
    }
    match text {
        "null" => Type::Null,
        "text" => Type::Text,
        "number" => Type::Number,
        "seconds" => Type::Seconds,
        "bool" => Type::Bool,
        "id" => Type::Id,
        "time" => Type::Time,
        "mode" => Type::Mode,
        "path" => Type::Path,
        _ => panic!("docs/json.md: what is {text:?}?"),
    }
}

impl Page {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
        let text = std::fs::read_to_string(path).expect("docs/json.md can be read");
        let mut sections = BTreeMap::<String, Section>::new();
        let mut current: Option<(String, Section)> = None;
        for line in text.lines().chain(["## "]) {
            let heading = line.strip_prefix("### ").map(|name| (name, Form::Nested));
            if let Some((name, form)) = heading.or(line.strip_prefix("## ").map(|name| (name, Form::Nothing))) {
                if let Some((name, section)) = current.take() {
                    assert!(
                        sections.insert(name.clone(), section).is_none(),
                        "docs/json.md: {name} stands there twice"
                    );
                }
                current = Some((name.to_owned(), Section { form, fields: Vec::new() }));
                continue;
            }
            let Some((_, section)) = &mut current else { continue };
            let is_lines = ["An object on each line", "On standard error, an object on each line"];
            if line.starts_with("One object") || line.starts_with("On standard error, one object") {
                section.form = Form::One;
            } else if is_lines.iter().any(|words| line.starts_with(words)) {
                section.form = Form::Lines;
            }
            if let Some((name, rest)) = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')) {
                let cells: Vec<&str> = rest.split(" | ").map(str::trim).collect();
                let [mark, types, meaning] = cells.as_slice() else { panic!("docs/json.md: {line}") };
                assert!(meaning.len() > 3, "docs/json.md: what does {name} mean?");
                let types = types.split(" or ").map(parse_type).collect();
                section.fields.push(Field { name: name.to_owned(), is_optional: *mark == "?", types });
            }
        }
        let page = Self { sections, seen: BTreeSet::new() };
        for (name, section) in &page.sections {
            assert_eq!(section.form == Form::Nothing, section.fields.is_empty(), "docs/json.md: {name}");
            for field in &section.fields {
                for of in &field.types {
                    let of = if let Type::List(of) = of { of } else { of };
                    let Type::Object(other) = of else { continue };
                    let is_there = page.sections.get(other).is_some_and(|section| !section.fields.is_empty());
                    assert!(is_there, "docs/json.md: {name} refers to {other}");
                }
            }
        }
        page
    }

    /// What the page promises and no output had.
    fn unseen(&self) -> Vec<(String, String, String)> {
        let fields = self.sections.iter().flat_map(|(name, section)| section.fields.iter().map(move |it| (name, it)));
        let all = fields.flat_map(|(name, Field { name: field, types, .. })| {
            types.iter().map(move |of| (name.clone(), field.clone(), of.to_string()))
        });
        let is_known = |(name, field, of): &(String, String, String)| {
            UNSEEN.contains(&(name.as_str(), field.as_str(), of.as_str()))
        };
        all.filter(|key| !self.seen.contains(key) && !is_known(key)).collect()
    }

    fn section(&self, name: &str) -> &Section {
        self.sections.get(name).unwrap_or_else(|| panic!("docs/json.md has no section {name}"))
    }

    /// Lines that a command printed.
    #[track_caller]
    fn check_lines(&mut self, section: &str, text: &str) {
        let lines: Vec<&str> = text.lines().collect();
        match self.section(section).form {
            Form::One => assert_eq!(lines.len(), 1, "{section}: one object is promised: {text}"),
            Form::Lines => {}
            Form::Nothing | Form::Nested => panic!("docs/json.md does not say that {section} prints JSON"),
        }
        for line in lines {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{section}: {error}: {line}"));
            let object = value.as_object().unwrap_or_else(|| panic!("{section}: not an object: {line}"));
            assert_eq!(object.get("v"), Some(&Value::from(1)), "{section}: {line}");
            let mut object = object.clone();
            object.remove("v");
            if let Err(what) = self.check_object(section, &object) {
                panic!("{section}: {what}\n{line}\n(docs/json.md says otherwise)");
            }
        }
    }

    fn check_object(&mut self, name: &str, object: &Map<String, Value>) -> Result<(), String> {
        let section = self.section(name);
        let mut known = BTreeSet::new();
        let mut nested = Vec::new();
        let mut seen = Vec::new();
        for Field { name: field, is_optional, types } in &section.fields {
            known.insert(field.clone());
            let Some(value) = object.get(field) else {
                if *is_optional {
                    continue;
                }
                return Err(format!("{name}: no field {field}"));
            };
            let Some(fits) = types.iter().find(|of| is_of(value, of, &mut nested)) else {
                return Err(format!("{name}: {field} is {value}, and not {types:?}"));
            };
            if value.as_array().is_none_or(|list| !list.is_empty()) {
                seen.push((name.to_owned(), field.clone(), fits.to_string()));
            }
            let holds_paths = |of: &Type| *of == Type::Path || *of == Type::List(Box::new(Type::Path));
            if types.iter().any(holds_paths) {
                let bytes = format!("{field}_bytes");
                check_bytes(value, object.get(&bytes)).map_err(|what| format!("{name}: {bytes}: {what}"))?;
                known.insert(bytes);
            }
        }
        if let Some(unknown) = object.keys().find(|key| !known.contains(*key)) {
            return Err(format!("{name}: unknown field {unknown}"));
        }
        self.seen.extend(seen);
        nested.into_iter().try_for_each(|(name, object)| self.check_object(&name, &object))
    }
}

/// Objects within are left to the caller.
fn is_of(value: &Value, of: &Type, nested: &mut Vec<(String, Map<String, Value>)>) -> bool {
    match of {
        Type::Null => value.is_null(),
        Type::Text | Type::Path => value.is_string(),
        Type::Number => value.is_u64(),
        Type::Seconds => value.as_f64().is_some_and(|seconds| seconds >= 0.0),
        Type::Bool => value.is_boolean(),
        Type::Id => is_id(value),
        Type::Time => is_time(value),
        Type::Mode => {
            value.as_str().is_some_and(|mode| mode.len() == 4 && mode.bytes().all(|b| matches!(b, b'0'..=b'7')))
        }
        Type::Word(word) => value == word.as_str(),
        Type::List(of) => value.as_array().is_some_and(|list| list.iter().all(|value| is_of(value, of, nested))),
        Type::Object(name) => match value.as_object() {
            Some(object) => {
                nested.push((name.clone(), object.clone()));
                true
            }
            None => false,
        },
    }
}

/// The bytes of a path are there exactly if its text has lost something.
fn check_bytes(path: &Value, bytes: Option<&Value>) -> Result<(), String> {
    let is_lossy = |path: &Value| path.as_str().is_some_and(|path| path.contains('\u{fffd}'));
    let is_base64 = |text: &Value| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        text.as_str().is_some_and(|text| text.len() % 4 == 0 && !text.is_empty() && text.bytes().all(letter))
    };
    let fits = match (path.as_array(), bytes) {
        (None, None) => !is_lossy(path),
        (None, Some(bytes)) => is_lossy(path) && is_base64(bytes),
        (Some(paths), None) => !paths.iter().any(is_lossy),
        (Some(paths), Some(bytes)) => bytes.as_array().is_some_and(|bytes| {
            let pairs = || paths.iter().zip(bytes);
            let each =
                |(path, bytes): (&Value, &Value)| if is_lossy(path) { is_base64(bytes) } else { bytes.is_null() };
            bytes.len() == paths.len() && paths.iter().any(is_lossy) && pairs().all(each)
        }),
    };
    if fits { Ok(()) } else { Err(format!("{path} with {bytes:?}")) }
}

/// The commands that `--help` lists.
pub fn commands() -> Vec<String> {
    let help = World::empty().ok(&["--help"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<String> = names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    names.into_iter().filter(|name| name != "help").collect()
}

/// Runs commands and holds what they print against the page.
struct Checker {
    page: Page,
    ran: BTreeSet<String>,
}

impl Checker {
    #[track_caller]
    fn run(&mut self, world: &World, status: i32, args: &[&str]) {
        self.run_raw(world, status, &args.iter().map(OsStr::new).collect::<Vec<_>>());
    }

    /// Asks no more for what cannot be had here.
    fn forgive(&mut self, section: &str, field: &str, of: &str) {
        self.page.seen.insert((section.to_owned(), field.to_owned(), of.to_owned()));
    }

    #[track_caller]
    fn run_raw(&mut self, world: &World, status: i32, args: &[&OsStr]) {
        let output = world.command(&["--json"]).args(args).output().expect("the program runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{args:?}\n{out}{err}");
        let name = args[0].to_str().expect("a command");
        // Another name for the same.
        let name = if name == "checkout" { "restore" } else { name }.to_owned();
        let long = args.get(1).and_then(|word| word.to_str()).map(|word| format!("{name} {word}"));
        let section = long.filter(|long| self.page.sections.contains_key(long)).unwrap_or_else(|| name.clone());
        if self.page.section(&section).form != Form::Nothing && (!out.is_empty() || matches!(status, 0 | 3)) {
            self.page.check_lines(&section, &out);
        }
        for line in err.lines() {
            let is_warning = line.starts_with("{\"v\":1,\"warning\"");
            self.page.check_lines(if is_warning { "warnings" } else { "errors" }, line);
        }
        self.ran.insert(name);
    }
}

fn not_utf8(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// Every command, and every field that the page has.
#[test]
fn every_command_prints_what_the_page_says() {
    let mut checker = Checker { page: Page::read(), ran: BTreeSet::new() };
    let c = &mut checker;
    first_steps(c);
    looking_and_changing(c);
    what_cannot_be_read(c);
    damage(c);
    with_others(c);
    rarer::samples(c);
    for command in commands() {
        assert!(checker.ran.contains(&command), "{command} has no sample here, and perhaps no section in docs/json.md");
    }
    let unseen = checker.page.unseen();
    assert!(unseen.is_empty(), "no output had these, which the page has: {unseen:#?}");
}

fn first_steps(c: &mut Checker) {
    let world = World::empty();
    c.run(&world, 1, &["status"]);
    c.run(&world, 2, &["status", "--no-such"]);
    c.run(&world, 0, &["init"]);
    c.run(&world, 1, &["init"]);
    c.run_raw(&world, 0, &[OsStr::new("init"), not_utf8(b"caf\xe9")]);
    for args in [["status"].as_slice(), &["log"], &["ls"], &["tag"], &["config"], &["fsck"], &["commit"], &["version"]]
    {
        c.run(&world, 0, args);
    }
    c.run(&world, 0, &["man", "pages"]);
    c.run(&world, 0, &["completions", "bash"]);
    c.run(&world, 0, &["config", "validate"]);
    c.run(&world, 0, &["config", "get", "node.name"]);
    c.run(&world, 0, &["config", "set", "node.name", "x"]);
}

fn looking_and_changing(c: &mut Checker) {
    let world = World::repository();
    world.write("file", "bytes");
    world.write("tool", "bytes");
    std::fs::set_permissions(world.path("tool"), std::fs::Permissions::from_mode(0o755)).expect("it can be set");
    world.write("dir/empty", "");
    world.write("large", vec![7; 2_000_000]);
    std::fs::write(world.path(not_utf8(b"caf\xe9")), "x").expect("it can be written");
    std::os::unix::fs::symlink(not_utf8(b"to\xe9"), world.path("link")).expect("it can be made");
    world.write(".filesyncignore", "*.o\n!in.o\n");
    let made = std::process::Command::new("mkfifo").arg(world.path("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    c.run(&world, 0, &["commit", "--dry-run"]);
    c.run(&world, 0, &["commit"]);
    c.run(&world, 0, &["commit"]);
    c.run(&world, 0, &["tag", "first"]);
    world.write("file", "other");
    c.run(&world, 0, &["commit", "--amend"]);
    c.run(&world, 0, &["tag", "first", "--force"]);
    c.run(&world, 0, &["tag"]);
    std::fs::rename(world.path(not_utf8(b"caf\xe9")), world.path("cafe")).expect("it can be renamed");
    c.run(&world, 0, &["status"]);
    c.run(&world, 0, &["diff"]);
    c.run(&world, 0, &["commit"]);
    c.run(&world, 0, &["diff", "first", "HEAD", "--stat"]);
    c.run(&world, 0, &["show"]);
    c.run(&world, 0, &["show", "first", "--stat"]);
    c.run(&world, 0, &["du"]);
    c.run(&world, 0, &["log"]);
    c.run(&world, 0, &["log", "-n", "1", "--", "file"]);
    c.run(&world, 0, &["ls", "-r"]);
    c.run(&world, 0, &["ls", "HEAD:dir"]);
    c.run(&world, 0, &["cat", "HEAD:file"]);
    c.run(&world, 0, &["check-ignore", "a.o", "in.o", "b", "file"]);
    c.run_raw(&world, 1, &[OsStr::new("check-ignore"), not_utf8(b"\xe9")]);
    world.write("file", "in no commit");
    std::fs::write(world.path(not_utf8(b"caf\xe9")), "in no commit").expect("it can be written");
    c.run(&world, 3, &["restore", "--dry-run", "first"]);
    c.run(&world, 3, &["restore", "first"]);
    c.run(&world, 0, &["checkout", "--force"]);
    c.run(&world, 0, &["restore", "--to", "copy", "--dry-run"]);
    c.run(&world, 0, &["restore", "--to", "copy"]);
    c.run(&world, 0, &["tag", "--delete", "first"]);
    c.run(&world, 1, &["tag", "--delete", "first"]);
    c.run(&world, 0, &["fsck", "--quick"]);
    c.run(&world, 0, &["forget", "--keep-last", "1", "--dry-run"]);
    c.run(&world, 0, &["forget", "--keep-last", "1"]);
    c.run(&world, 0, &["log"]);
    c.run(&world, 0, &["gc", "--dry-run"]);
    c.run(&world, 0, &["gc"]);
    c.run(&world, 0, &["upgrade"]);
}

fn what_cannot_be_read(c: &mut Checker) {
    let world = World::for_plain_user();
    world.ok(&["init"]);
    world.write("closed", "x");
    world.write("open", "x");
    if is_root() {
        let _ = std::os::unix::fs::chown(world.path("open"), Some(filesync_tests::world::PLAIN_USER), None);
    }
    std::fs::set_permissions(world.path("closed"), std::fs::Permissions::from_mode(0o000)).expect("it can be set");
    c.run(&world, 1, &["commit"]);
    c.run(&world, 3, &["commit", "--partial"]);
}

fn damage(c: &mut Checker) {
    let world = World::repository();
    std::fs::write(world.path(not_utf8(b"caf\xe9")), vec![3; 100_000]).expect("it can be written");
    world.commit();
    world.ok(&["tag", "t"]);
    world.write(".filesync/refs/tags/t", "");
    let packs = std::fs::read_dir(world.path(".filesync/packs")).expect("there are packs");
    for pack in packs.flatten() {
        let mut bytes = std::fs::read(pack.path()).expect("a pack can be read");
        // The data of the only frame of chunks; that of metadata begins likewise and is left alone.
        if bytes[9] == 1 {
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            std::fs::write(pack.path(), bytes).expect("it can be written");
        }
    }
    c.run(&world, 5, &["fsck"]);
    c.run(&world, 5, &["restore", "--to", "copy"]);
    c.run(&world, 5, &["tag"]);
    c.run(&world, 0, &["tag", "--delete", "t"]);
}

/// Two nodes, and both sides of a file.
fn with_others(c: &mut Checker) {
    let one = World::repository();
    one.write("file", "bytes");
    one.commit();
    one.ok(&["tag", "first"]);
    let _served = rarer::Served(&one);
    c.run(&one, 0, &["serve", "--detach", "--listen", &address()]);
    c.run(&one, 0, &["sync"]);
    let line = one.ok(&["invite"]);
    let two = World::empty();
    c.run(&two, 0, &["clone", line.trim(), "."]);
    let part = World::empty();
    c.run(&part, 3, &["clone", one.ok(&["invite"]).trim(), ".", "--path", "not/yet"]);
    part.write("elsewhere", "x");
    c.run(&part, 0, &["status"]);
    c.run(&one, 0, &["invite", "--role", "reader"]);
    c.run(&one, 0, &["invite", "list"]);
    let id = one.json(&["invite", "list"])[0]["id"].as_str().expect("an id").to_owned();
    c.run(&one, 0, &["invite", "revoke", &id]);
    c.run(&one, 0, &["peers"]);
    c.run(&one, 0, &["snapshot"]);
    c.run(&one, 0, &["snapshot", "create"]);
    for world in [&one, &two] {
        world.write("file", world.root().as_os_str().as_encoded_bytes());
        world.commit();
    }
    one.ok(&["tag", "v1"]);
    two.ok(&["tag", "v1", "HEAD~1"]);
    c.run(&one, 0, &["sync"]);
    c.run(&two, 3, &["sync", "--push"]);
    c.run(&two, 0, &["sync"]);
    one.ok(&["tag", "--delete", "v1"]);
    c.run(&one, 0, &["sync"]);
    c.run(&two, 0, &["sync"]);
    c.run(&two, 0, &["status"]);
    // The same command goes on also where somebody has worked meanwhile.
    for world in [&one, &two] {
        world.write("file", [b"again ", world.root().as_os_str().as_encoded_bytes()].concat());
        world.commit();
    }
    one.ok(&["sync", "--pull"]);
    c.run(&one, 0, &["sync"]);
    c.run(&two, 3, &["clone", line.trim(), "."]);
    c.run(&one, 0, &["stop"]);
    rarer::of_a_member(c, &one);
}

/// The test above would be worth nothing if it let these pass.
#[test]
fn what_the_page_does_not_say_is_found() {
    let check = |section: &str, line: &str| {
        let mut page = Page::read();
        let object: Value = serde_json::from_str(line).expect("JSON");
        page.check_object(section, object.as_object().expect("an object"))
    };
    let id = "0".repeat(64);
    assert_eq!(check("tag", &format!("{{\"name\":\"a\",\"commit\":\"{id}\"}}")), Ok(()));
    for (section, line, what) in [
        ("tag", "{\"name\":\"a\"}", "no field commit"),
        ("tag", "{\"name\":\"a\",\"commit\":null,\"more\":1}", "unknown field more"),
        ("tag", "{\"name\":1,\"commit\":null}", "name is 1"),
        ("tag", "{\"name\":\"a\",\"commit\":\"12\"}", "commit is"),
        ("change", "{\"change\":\"X\",\"path\":\"a\"}", "change is"),
        ("change", "{\"change\":\"A\",\"path\":\"a\u{fffd}\"}", "path_bytes"),
        ("change", "{\"change\":\"A\",\"path\":\"a\",\"path_bytes\":\"YQ==\"}", "path_bytes"),
        ("man", "{\"path\":\"a\",\"pages\":[1]}", "pages is"),
    ] {
        let told = check(section, line).expect_err(line);
        assert!(told.contains(what), "{line}: {told}");
    }
}
