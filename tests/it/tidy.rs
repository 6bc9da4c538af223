//! What the code must look like, told by reading it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace is above").to_owned()
}

/// Files below a directory with one of these endings, from the root of the workspace.
fn files(dir: &str, ending: &str) -> Vec<String> {
    let mut open = vec![root().join(dir)];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory can be read").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_str().is_some_and(|path| path.ends_with(ending)) {
                let path = path.strip_prefix(root()).expect("below the root").to_str().expect("UTF-8").to_owned();
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no files {ending} in {dir}");
    found
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files that only tests use.
fn is_test(path: &str) -> bool {
    path.ends_with("tests.rs")
        || path.ends_with("/fuzz.rs")
        || ["/tests/", "/testing/"].iter().any(|part| path.contains(part))
        || path.ends_with("testing.rs")
}

/// Lines of code of a crate that ships, with path and number: no comments, no tests.
fn code(dir: &str) -> Vec<(String, usize, String)> {
    let mut lines = Vec::new();
    for path in files(&format!("{dir}/src"), ".rs").into_iter().filter(|path| !is_test(path)) {
        let text = read(&path);
        let lines_of = text.lines().map(|line| line.split("//").next().unwrap_or_default()).enumerate();
        let mut gate = false;
        for (at, line) in lines_of {
            // A module of tests stands at the end of its file; one that lies in another file has a line with `;`.
            if gate && line.trim_start().starts_with("mod ") && line.trim_end().ends_with('{') {
                break;
            }
            gate = line.contains("#[cfg(test)]");
            lines.push((path.clone(), at + 1, line.to_owned()));
        }
    }
    lines
}

/// Fails where one of `words` stands in a crate, but for files below `allowed`.
#[track_caller]
fn forbid(crates: &[&str], words: &[&str], allowed: &[&str]) {
    let mut found = Vec::new();
    for (path, at, line) in crates.iter().flat_map(|dir| code(dir)) {
        let is_allowed = allowed.iter().any(|prefix| path.starts_with(prefix));
        if !is_allowed && words.iter().any(|word| line.contains(word)) {
            found.push(format!("{path}:{at}: {}", line.trim()));
        }
    }
    assert!(found.is_empty(), "not here:\n{}", found.join("\n"));
}

/// Crates and those of ours that they may use.
const ARROWS: [(&str, &[&str]); 6] = [
    ("cas", &[]),
    ("merkle", &["cas"]),
    ("p2p", &["cas", "merkle"]),
    ("raft-log", &[]),
    ("repo", &["cas", "merkle", "p2p", "raft-log"]),
    ("cli", &["repo"]),
];

/// The names of our crates in a text, after `prefix` and up to what cannot be part of a name.
fn ours(text: &str, prefix: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>();
    text.split(prefix).skip(1).map(name).filter(|name| !name.is_empty()).collect()
}

#[test]
fn crates_know_only_those_below() {
    for (member, allowed) in ARROWS {
        let manifest = read(&format!("{member}/Cargo.toml"));
        let dependencies = manifest.split_once("\n[dependencies]").map_or("", |(_, rest)| rest);
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        let named = ours(dependencies, "filesync-").into_iter().filter(|name| !allowed.contains(&name.as_str()));
        assert_eq!(named.collect::<Vec<_>>(), Vec::<String>::new(), "{member}/Cargo.toml");
        for path in files(&format!("{member}/src"), ".rs") {
            let text: String = read(&path).lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            // Tests of every crate may use the tools of one.
            let text = if is_test(&path) { text.replace("filesync_cas::testing::", "") } else { text };
            for crate_ in ["cas", "merkle", "p2p", "raft-log", "repo", "cli", "tests"] {
                let name = crate_.replace('-', "_");
                let used = [format!("filesync_{name}::"), format!("use filesync_{name} ")];
                let is_used = used.iter().any(|word| text.contains(word.as_str()));
                assert!(!is_used || crate_ == member || allowed.contains(&crate_), "{path} uses {crate_}");
            }
        }
    }
    let members = read("Cargo.toml");
    let members = members.lines().find(|line| line.starts_with("members")).expect("there are members");
    for member in members.split('"').skip(1).step_by(2) {
        let is_known = member == "tests" || ARROWS.iter().any(|(name, _)| *name == member);
        assert!(is_known, "{member}: which crates may it use?");
    }
}

#[test]
fn only_the_command_line_prints_and_exits() {
    let words = ["println!", "eprintln!", "print!(", "eprint!(", "process::exit", "io::stdout", "io::stderr"];
    forbid(&["cas", "merkle", "p2p", "raft-log", "repo"], &words, &[]);
}

#[test]
fn the_log_keeps_to_itself() {
    // Nothing of openraft is named in what others may name, nor is a clock or chance in what the log means.
    let public = ["raft-log/src/command.rs", "raft-log/src/error.rs", "raft-log/src/ids.rs", "raft-log/src/state"];
    let words = ["openraft", "rocksdb", "Instant", "SystemTime", "getrandom", "std::fs", "tokio"];
    let found = code("raft-log").into_iter().filter(|(path, _, _)| public.iter().any(|part| path.starts_with(part)));
    let found: Vec<_> = found.filter(|(_, _, line)| words.iter().any(|word| line.contains(word))).collect();
    assert!(found.is_empty(), "{found:#?}");
    // It syncs through its database, and the file beside it that counts.
    let words = ["sync_all", "sync_data", "set_sync"];
    let allowed = ["raft-log/src/store/rocks.rs", "raft-log/src/store/guard.rs"];
    forbid(&["raft-log"], &words, &allowed);
}

#[test]
fn only_the_store_syncs() {
    let words = ["sync_all", "sync_data", "fsync(", "fdatasync("];
    // Restore syncs the working copy, through the vfs: so faults can be put in its way.
    forbid(&["merkle", "p2p", "repo", "cli"], &words, &["repo/src/restore/"]);
    let direct = ["File::open", "File::create", "File::options", "OpenOptions::new()", "rustix::fs::sync"];
    forbid(&["repo"], &direct, &[]);
}

#[test]
fn files_are_changed_through_the_vfs() {
    let words = [
        "fs::write",
        "fs::rename",
        "fs::remove_file",
        "fs::remove_dir",
        "fs::copy(",
        "File::create",
        "fs::hard_link",
        "fs::create_dir",
        "fs::set_permissions",
        "unlinkat(",
        "renameat",
    ];
    let allowed = ["cas/src/vfs", "cas/src/index", "cas/src/store/recover.rs", "cas/src/lock.rs", "repo/src/init.rs"];
    forbid(&["cas", "merkle", "p2p", "repo"], &words, &allowed);
}

#[test]
fn rules_between_peers_know_no_sockets_and_no_clock() {
    let words = ["libp2p", "tokio", "Instant::now", "SystemTime", "thread::sleep", "std::net"];
    forbid(&["p2p"], &words, &["p2p/src/transport"]);
}

/// Packages of the lock file: name and version.
fn locked() -> Vec<(String, Vec<u64>)> {
    let text = read("Cargo.lock");
    let packages = text.split("[[package]]").skip(1).map(|package| {
        let field = |name: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
            line.expect("every package has it").trim_matches('"').to_owned()
        };
        let numbers = field("version");
        let numbers = numbers.split(['-', '+']).next().unwrap_or_default();
        (field("name"), numbers.split('.').map(|part| part.parse().expect("a number")).collect())
    });
    packages.collect()
}

/// What the outside can reach and was found to break: older than this, or at all.
#[test]
fn libraries_with_known_holes_are_not_used() {
    let floors = [
        ("quinn-proto", [0, 11, 15]),
        ("rustls-webpki", [0, 103, 13]),
        ("libp2p-identify", [0, 47, 0]),
        ("openraft", [0, 9, 25]),
    ];
    let banned = ["yamux", "libp2p-yamux", "libp2p-gossipsub", "libp2p-rendezvous", "libp2p-kad", "ruzstd", "bincode"];
    let packages = locked();
    assert!(packages.len() > 50, "{} packages", packages.len());
    for (name, version) in &packages {
        assert!(!banned.contains(&name.as_str()), "{name}");
        for (floor, least) in floors.iter().filter(|(floor, _)| floor == name) {
            assert!(version[..] >= least[..], "{floor} {version:?}: at least {least:?}");
        }
    }
}

fn docs() -> Vec<String> {
    let mut docs = files("docs", ".md");
    docs.extend(
        ["README.md", "CONTRIBUTING.md"].map(str::to_owned).into_iter().filter(|path| root().join(path).exists()),
    );
    docs
}

/// What headings are called in links, as GitHub does it.
fn anchors(text: &str) -> BTreeSet<String> {
    let anchor = |heading: &str| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    text.lines().filter(|line| line.starts_with('#')).map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut dead = Vec::new();
    for doc in docs() {
        let text = read(&doc);
        let dir = Path::new(&doc).parent().expect("a file lies in a directory").to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { PathBuf::from(&doc) } else { dir.join(path) };
            let target = root().join(target);
            let has_anchor = || {
                let text = std::fs::read_to_string(&target).unwrap_or_default();
                anchor.is_empty() || anchors(&text).contains(anchor)
            };
            if !target.exists() || !has_anchor() {
                dead.push(format!("{doc}: {link}"));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn documents_name_no_path_of_this_machine() {
    for doc in docs() {
        for (at, line) in read(&doc).lines().enumerate() {
            let named = ["/root/", "/root`"].iter().any(|path| line.contains(path));
            assert!(!named, "{doc}:{}: {line}", at + 1);
        }
    }
}

/// Names in backticks with `::`, of lower case letters: `places::limits::full_disk`.
fn named_tests(text: &str) -> BTreeSet<String> {
    let is_name = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let is_test = |word: &&str| word.contains("::") && word.split("::").all(is_name);
    text.split('`').skip(1).step_by(2).filter(is_test).map(str::to_owned).collect()
}

/// All tests, by the module that they lie in, from the file names.
fn all_tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut paths = Vec::new();
    for dir in [
        "tests/it",
        "cas/src",
        "merkle/src",
        "merkle/tests/it",
        "p2p/src",
        "p2p/tests/it",
        "raft-log/src",
        "p2p/tests/net",
        "repo/src",
        "cli/src",
    ] {
        paths.extend(files(dir, ".rs").into_iter().map(|path| (dir, path)));
    }
    for (dir, path) in paths {
        let inner = path.trim_start_matches(dir).trim_start_matches('/').trim_end_matches(".rs").replace('/', "::");
        let text = read(&path);
        let mut is_test = false;
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("#[test]") {
                is_test = true;
            } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) {
                is_test = false;
                let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                tests.insert(format!("{inner}::{name}"));
                tests.insert(format!("{inner}::tests::{name}"));
            }
        }
    }
    tests
}

/// Whether `name` is a test's: in full, or with modules left out.
fn is_known(name: &str, tests: &BTreeSet<String>) -> bool {
    let (module, function) = name.rsplit_once("::").unwrap_or(("", name));
    tests.iter().any(|test| {
        let Some(path) = test.strip_suffix(function).and_then(|path| path.strip_suffix("::")) else { return false };
        let mut parts = path.split("::");
        module.split("::").all(|wanted| parts.any(|part| part == wanted))
    })
}

#[test]
fn every_guarantee_has_its_test() {
    let tests = all_tests();
    for (path, least) in [("docs/guarantees.md", 100), ("docs/simulation.md", 15)] {
        let named = named_tests(&read(path));
        assert!(named.len() > least, "{path} names only {} tests", named.len());
        let missing: Vec<_> = named.into_iter().filter(|name| !is_known(name, &tests)).collect();
        assert!(missing.is_empty(), "{path} names tests that are not there: {missing:#?}");
    }
}

/// A script that asks for a test by a name that none has would pass.
#[test]
fn scripts_name_tests_that_are_there() {
    let script = read("scripts/lib.sh");
    let named: Vec<&str> =
        script.split("--exact ").skip(1).filter_map(|rest| rest.split_ascii_whitespace().next()).collect();
    let tests = all_tests();
    assert!(!named.is_empty() && named.iter().all(|name| tests.contains(*name)), "{named:?}");
}

/// What ships can be told to make no mistake that no test looks for. (That a test looks for none that cannot be made it sees
/// itself.)
#[test]
fn every_mistake_is_looked_for() {
    let list = read("docs/simulation.md");
    let mut tests = String::new();
    for dir in ["cas/src", "p2p/tests", "raft-log/src", "repo/src"] {
        files(dir, ".rs").iter().filter(|path| is_test(path)).for_each(|path| tests += &read(path));
    }
    let mut seen = 0;
    for (path, at, line) in ["cas", "merkle", "p2p", "raft-log", "repo", "cli"].into_iter().flat_map(code) {
        for rest in line.split("mistake(\"").skip(1) {
            let name = rest.split('"').next().unwrap_or_default();
            assert!(tests.contains(&format!("\"{name}\"")), "{path}:{at}: {name}: no test looks for it");
            assert!(list.contains(&format!("| {name} |")), "{path}:{at}: {name}: not in docs/simulation.md");
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} mistakes");
}

/// Who looks for something finds its file in the code map.
#[test]
fn every_file_is_on_the_map() {
    let map = read("docs/architecture.md");
    let mut seen = 0;
    for krate in ["cas", "merkle", "p2p", "raft-log", "repo", "cli"] {
        for entry in std::fs::read_dir(root().join(krate).join("src")).expect("it is there").flatten() {
            let name = entry.file_name().into_string().expect("UTF-8");
            if name.ends_with(".rs") && !["lib.rs", "main.rs", "fuzz.rs"].contains(&name.as_str()) {
                assert!(map.contains(&format!("`{name}`")), "docs/architecture.md does not name {krate}/src/{name}");
                seen += 1;
            }
        }
    }
    assert!(seen > 100, "{seen} files");
}

#[test]
fn names_of_tests_are_understood() {
    let named = named_tests("a `places::full_disk`, `Repo::open`, `x`, and `cli::status::exit_code`");
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["cli::status::exit_code", "places::full_disk"]);
    let tests = all_tests();
    for name in ["places::full_disk", "places::limits::full_disk", "tidy::names_of_tests_are_understood"] {
        assert!(is_known(name, &tests), "{name}");
    }
    for name in ["places::no_such_test", "cli::full_disk", "full_disk::places"] {
        assert!(!is_known(name, &tests), "{name}");
    }
}
