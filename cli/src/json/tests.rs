//! The lines that scripts read, to the letter.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use filesync_repo::{ChangeKind, CommitId, ContentHash, EntryKind, SignatureState, TreeId};

use super::*;

const NOT_UTF8: &[u8] = b"a\xff";

fn id(byte: u8) -> ContentHash {
    ContentHash::from_bytes([byte; 32])
}

/// Compares with `expected`, in which `#7` stands for the 64 digits of `id(7)`.
fn check(object: &impl Serialize, expected: &str) {
    let mut wanted = format!("{expected}\n");
    for byte in 1..10_u8 {
        wanted = wanted.replace(&format!("#{byte}"), &id(byte).to_string());
    }
    assert_eq!(line(object), wanted);
}

fn commit_id(byte: u8) -> CommitId {
    CommitId::from_bytes([byte; 32])
}

fn tree_id(byte: u8) -> TreeId {
    TreeId::from_bytes([byte; 32])
}

fn time() -> Timestamp {
    Timestamp::new(1_795_366_260, 42).unwrap()
}

#[test]
fn init() {
    let mut result = repo::InitResult { repo: id(1), node: id(2), path: "/r".into() };
    check(&Init::new(&result), r##"{"v":1,"repo":"#1","node":"#2","path":"/r"}"##);
    result.path = OsString::from_vec(NOT_UTF8.to_vec()).into();
    check(
        &Init::new(&result),
        "{\"v\":1,\"repo\":\"#1\",\"node\":\"#2\",\"path\":\"a\u{fffd}\",\"path_bytes\":\"Yf8=\"}",
    );
}

#[test]
fn commit() {
    let mut result = repo::CommitResult {
        commit: Some(commit_id(1)),
        tree: Some(tree_id(2)),
        parents: vec![commit_id(3)],
        message: "say \"hi\"\n".into(),
        would_commit: None,
        files: 4,
        bytes: 5,
        added: 6,
        modified: 7,
        deleted: 8,
        new_bytes: 9,
        stored_bytes: 10,
        nodes_written: 11,
        unreadable: Vec::new(),
        elapsed: Duration::from_millis(1500),
    };
    check(
        &Commit::new(&result),
        r##"{"v":1,"commit":"#1","tree":"#2","parents":["#3"],"message":"say \"hi\"\n","files":4,"bytes":5,"added":6,"modified":7,"deleted":8,"new_bytes":9,"stored_bytes":10,"nodes_written":11,"seconds":1.5}"##,
    );
    result.commit = None;
    result.unreadable = vec![repo::Unreadable { path: b"x".to_vec(), cause: "Permission denied".into() }];
    let text = line(&Commit::new(&result));
    assert!(text.starts_with(r#"{"v":1,"commit":null,"#), "{text}");
    assert!(text.contains(r#""unreadable":[{"path":"x","cause":"Permission denied"}]"#), "{text}");
    result.would_commit = Some(true);
    assert!(line(&Commit::new(&result)).contains(r#""would_commit":true,"#));
}

#[test]
fn tag() {
    let mut tag = repo::Tag { name: "v1".into(), commit: Some(commit_id(1)), was: None };
    check(&Tag::new(&tag), r##"{"v":1,"name":"v1","commit":"#1"}"##);
    tag.was = Some(commit_id(2));
    check(&Tag::new(&tag), r##"{"v":1,"name":"v1","commit":"#1","was":"#2"}"##);
    tag = repo::Tag { commit: None, was: None, ..tag };
    check(&Tag::new(&tag), r#"{"v":1,"name":"v1","commit":null}"#);
}

#[test]
fn config() {
    let setting = repo::ConfigSetting { key: "a.b", value: "\"x\"".into(), source: repo::ConfigSource::Default };
    check(&Setting::new(&setting), r#"{"v":1,"key":"a.b","value":"\"x\"","source":"default"}"#);
    let setting = repo::ConfigSetting { source: repo::ConfigSource::File, ..setting };
    check(&Setting::new(&setting), r#"{"v":1,"key":"a.b","value":"\"x\"","source":"file"}"#);
    check(&Valid { valid: true }, r#"{"v":1,"valid":true}"#);
}

#[test]
fn check_ignore() {
    let rule =
        repo::IgnoreRule { source: b".filesyncignore".to_vec(), line: 3, pattern: NOT_UTF8.to_vec(), negated: false };
    let answer = repo::IgnoreAnswer { path: b"x".to_vec(), ignored: true, rule: Some(rule) };
    check(
        &IgnoreAnswer::new(&answer),
        "{\"v\":1,\"path\":\"x\",\"ignored\":true,\"source\":\".filesyncignore\",\"line\":3,\
         \"pattern\":\"a\u{fffd}\",\"pattern_bytes\":\"Yf8=\"}",
    );
    let answer = repo::IgnoreAnswer { path: NOT_UTF8.to_vec(), ignored: false, rule: None };
    check(
        &IgnoreAnswer::new(&answer),
        "{\"v\":1,\"path\":\"a\u{fffd}\",\"path_bytes\":\"Yf8=\",\"ignored\":false,\"source\":null,\
         \"line\":null,\"pattern\":null}",
    );
}

#[test]
fn status() {
    check(
        &Status::new(&repo::StatusResult::default()),
        r#"{"v":1,"head":null,"main":null,"ahead":null,"behind":null,"holders":null,"as_of":null,"changes":[],"conflicts":[],"lost":0,"removed":false,"clean":true}"#,
    );
    let change = |kind, path: &[u8], from: Option<&[u8]>| repo::Change {
        from: from.map(<[u8]>::to_vec),
        ..repo::Change::new(kind, path.to_vec())
    };
    let result = repo::StatusResult {
        head: Some(commit_id(1)),
        main: Some(commit_id(2)),
        as_of: Some(9),
        ahead: Some(3),
        behind: Some(4),
        holders: Some((vec![1, 3], 3)),
        changes: vec![
            change(ChangeKind::Modified, b"m\n", None),
            change(ChangeKind::Renamed, b"new", Some(NOT_UTF8)),
            change(ChangeKind::Unreadable, NOT_UTF8, None),
        ],
        conflicts: vec![b"c".to_vec(), NOT_UTF8.to_vec()],
        deleted: vec![None],
        partial: None,
        lost: 5,
        is_removed: true,
    };
    check(
        &Status::new(&result),
        "{\"v\":1,\"head\":\"#1\",\"main\":\"#2\",\"ahead\":3,\"behind\":4,\"holders\":[1,3],\"as_of\":9,\"changes\":[\
         {\"change\":\"M\",\"path\":\"m\\n\"},\
         {\"change\":\"R\",\"path\":\"new\",\"from\":\"a\u{fffd}\",\"from_bytes\":\"Yf8=\"},\
         {\"change\":\"unreadable\",\"path\":\"a\u{fffd}\",\"path_bytes\":\"Yf8=\"}],\
         \"conflicts\":[\"c\",\"a\u{fffd}\"],\"conflicts_bytes\":[null,\"Yf8=\"],\"lost\":5,\"removed\":true,\"clean\":false}",
    );
}

#[test]
fn log() {
    let entry = repo::LogEntry {
        commit: commit_id(1),
        tree: tree_id(2),
        parents: vec![commit_id(3), commit_id(4)],
        author: "A <a@b>".into(),
        node: id(5),
        time: time(),
        message: "m\u{1b}".into(),
        as_of: None,
        log_index: None,
        signature: SignatureState::Good,
        refs: vec!["HEAD".into()],
        expired: Some(false),
    };
    check(
        &LogEntry::new(&entry),
        r##"{"v":1,"commit":"#1","tree":"#2","parents":["#3","#4"],"author":"A <a@b>","node":"#5","time":"2026-11-22T16:51:00.000000042Z","message":"m\u001b","log_index":null,"as_of":null,"signature":"good","refs":["HEAD"],"expired":false}"##,
    );
}

#[test]
fn ls() {
    let file = repo::LsEntry {
        path: b"d/f".to_vec(),
        kind: EntryKind::File,
        mode: 0o644,
        size: 3,
        mtime: Some(time()),
        id: Some(id(1)),
        b3: Some(id(2)),
        target: None,
    };
    check(
        &LsEntry::new(&file),
        r##"{"v":1,"path":"d/f","kind":"file","mode":"0644","size":3,"mtime":"2026-11-22T16:51:00.000000042Z","id":"#1","b3":"#2"}"##,
    );
    let link = repo::LsEntry {
        path: NOT_UTF8.to_vec(),
        kind: EntryKind::Symlink,
        mode: 0,
        mtime: None,
        id: None,
        b3: None,
        target: Some(NOT_UTF8.to_vec()),
        ..file
    };
    check(
        &LsEntry::new(&link),
        "{\"v\":1,\"path\":\"a\u{fffd}\",\"path_bytes\":\"Yf8=\",\"kind\":\"symlink\",\"mode\":\"0000\",\"size\":3,\
         \"mtime\":null,\"id\":null,\"target\":\"a\u{fffd}\",\"target_bytes\":\"Yf8=\"}",
    );
}

#[test]
fn restore() {
    let result = repo::RestoreResult {
        written: 1,
        deleted: 2,
        unchanged: 3,
        skipped: vec![b"s".to_vec()],
        damaged: vec![repo::Unreadable { path: b"d".to_vec(), cause: "bad".into() }],
        bytes: 4,
        plan: vec![repo::PlannedStep { action: "skip", path: b"s".to_vec() }],
        elapsed: Duration::ZERO,
    };
    check(
        &Restore::new(&result, false),
        r#"{"v":1,"written":1,"deleted":2,"unchanged":3,"skipped":["s"],"damaged":[{"path":"d","cause":"bad"}],"bytes":4,"seconds":0.0}"#,
    );
    let text = line(&Restore::new(&result, true));
    assert!(text.contains(r#""plan":[{"action":"skip","path":"s"}]"#), "{text}");
}

#[test]
fn fsck() {
    let result = repo::FsckResult {
        objects: 1,
        bytes: 2,
        damaged: vec![repo::DamagedObject {
            id: id(1),
            kind: "chunk",
            cause: "missing".into(),
            paths: vec![NOT_UTF8.to_vec(), b"b".to_vec()],
        }],
        lost: vec![repo::DamagedObject {
            id: id(2),
            kind: "tree",
            cause: "missing".into(),
            paths: vec![b"d".to_vec()],
        }],
        lost_recorded: 3,
        findings: vec!["HEAD: torn".into()],
        notes: vec!["pack".into()],
        repaired: 0,
        elapsed: Duration::from_secs(2),
    };
    check(
        &Fsck::new(&result),
        "{\"v\":1,\"objects\":1,\"bytes\":2,\"damaged\":[{\"id\":\"#1\",\"kind\":\"chunk\",\"cause\":\"missing\",\
         \"paths\":[\"a\u{fffd}\",\"b\"],\"paths_bytes\":[\"Yf8=\",null]}],\"lost\":[{\"id\":\"#2\",\"kind\":\"tree\",\"cause\":\"missing\",\"paths\":[\"d\"]}],\"lost_recorded\":3,\"findings\":[\"HEAD: torn\"],\"notes\":[\"pack\"],\
         \"repaired\":0,\"seconds\":2.0}",
    );
}

#[test]
fn house() {
    let mut result = repo::GcResult {
        live_bytes: 1,
        freed_bytes: 2,
        waiting_bytes: 3,
        packs_rewritten: 4,
        packs_removed: 5,
        ..repo::GcResult::default()
    };
    result.damaged.push(id(1));
    check(
        &Gc::new(&result, false),
        r##"{"v":1,"live_bytes":1,"freed_bytes":2,"waiting_bytes":3,"packs_rewritten":4,"packs_removed":5,"damaged":["#1"],"dry_run":false,"seconds":0.0}"##,
    );
    let result = repo::ForgetResult { expired: vec![commit_id(1), commit_id(2)], kept: 3, kept_published: 2 };
    let expected = r##"{"v":1,"expired":["#1","#2"],"kept":3,"kept_published":2,"dry_run":true}"##;
    check(&Forget::new(&result, true), expected);
    let result = repo::UpgradeResult { format: 1, upgraded: false };
    check(&Upgrade::new(&result), r#"{"v":1,"format":1,"upgraded":false}"#);
}

#[test]
fn warning() {
    let warning = repo::Warning { path: None, message: "index rebuilt".into() };
    check(&Warning::new(&warning), r#"{"v":1,"warning":"index rebuilt","path":null}"#);
}

#[test]
fn diff_and_du() {
    let side = |kind, mode, size| Some(repo::Side { kind, mode, size });
    let change = repo::Change {
        from: Some(NOT_UTF8.to_vec()),
        old: side(EntryKind::File, 0o644, 5),
        new: side(EntryKind::Executable, 0o755, 5),
        ..repo::Change::new(ChangeKind::Renamed, b"new".to_vec())
    };
    let patches = vec![repo::Patch { old: change.old, new: change.new, body: repo::PatchBody::Same }];
    let renamed = repo::Difference { change, patches };
    let sides =
        r#""old_kind":"file","new_kind":"executable","old_mode":"0644","new_mode":"0755","old_size":5,"new_size":5"#;
    let head = "\"change\":\"R\",\"path\":\"new\",\"from\":\"a\u{fffd}\",\"from_bytes\":\"Yf8=\"";
    check(&Difference::new(&renamed, false), &format!("{{\"v\":1,{head},{sides}}}"));
    check(&Difference::new(&renamed, true), &format!("{{\"v\":1,{head},{sides},\"insertions\":0,\"deletions\":0}}"));
    let change = repo::Change {
        old: side(EntryKind::Directory, 0o755, 0),
        ..repo::Change::new(ChangeKind::Deleted, b"d".to_vec())
    };
    let deleted = repo::Difference { change, patches: Vec::new() };
    let shown = r#"{"change":"D","path":"d","old_kind":"directory","new_kind":null,"old_mode":"0755","new_mode":null,"old_size":null,"new_size":null}"#;
    assert_eq!(show_change(&deleted, false, true), shown);
    assert_eq!(show_change(&deleted, false, false), format!(",{shown}"));
    let totals = repo::Totals { files: 1, directories: 2, bytes: 3 };
    check(
        &Du::new(&repo::DuEntry { path: b"d".to_vec(), totals }),
        r#"{"v":1,"path":"d","files":1,"directories":2,"bytes":3}"#,
    );
}
