//! `config`.

use filesync_tests::world::World;
use serde_json::json;

use super::{is_an_error, text};

const PATH: &str = ".filesync/config.toml";

fn file(world: &World) -> String {
    std::fs::read_to_string(world.path(PATH)).expect("settings can be read")
}

#[test]
fn shown_read_and_set() {
    let world = World::empty();
    world.ok(&["init", "--name", "desk"]);
    let show = || {
        let mut command = world.command(&["config", "--json"]);
        let output = command.env("USER", "ada").output().expect("runs");
        let lines = String::from_utf8(output.stdout).expect("UTF-8");
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<serde_json::Value>>()
    };
    let lines = show();
    let node = lines.iter().find(|line| line["key"] == "node.name");
    assert_eq!(node, Some(&json!({"v": 1, "key": "node.name", "value": "desk", "source": "file"})));
    assert_eq!((text(&lines[0]["key"]), text(&lines[0]["source"])), ("commit.author", "default"));
    assert!(text(&lines[0]["value"]).starts_with("ada@"), "{lines:?}");
    assert_eq!(world.ok(&["config", "get", "node.name"]), "desk\n");
    assert!(world.ok(&["config"]).contains(" (default)\nnode.name = desk\n"));
    assert_eq!(world.ok(&["config"]), world.ok(&["config", "show"]));

    assert_eq!(world.ok(&["config", "set", "commit.author", "Ada <a@b>"]), "commit.author = Ada <a@b>\n");
    assert_eq!(world.ok(&["-q", "config", "set", "node.name", "-lap"]), "");
    // Nobody has taken the name yet.
    assert_eq!(world.fails(0, &["config", "set", "node.name", "lap"]), "");
    let set = world.object(0, &["config", "set", "node.name", "lap"]);
    assert_eq!(set, json!({"v": 1, "key": "node.name", "value": "lap", "source": "file"}));
    assert_eq!(world.object(0, &["config", "get", "node.name"]), set);
    let all = "commit.author = Ada <a@b>
log.format = text (default)
log.level = info (default)
node.name = lap
serve.expose_http = no (default)
serve.mdns = no (default)
serve.peer_rate = 1048576 (default)
";
    assert_eq!(world.ok(&["config"]), all);
    assert_eq!(world.ok(&["config", "validate"]), "all is well\n");
    assert_eq!(world.object(0, &["config", "validate"]), json!({"v": 1, "valid": true}));
    world.write("a", "a");
    world.commit();
    assert_eq!(text(&world.json(&["log"])[0]["author"]), "Ada <a@b>");
    // From here on it has a name that the members know.
    world.ok(&["sync"]);
    let told = world.fails(0, &["config", "set", "node.name", "late"]);
    assert!(told.contains("they took its name when it joined") && told.lines().count() == 1, "{told}");
    assert_eq!(world.fails(0, &["config", "set", "commit.author", "Bob"]), "");
    assert_eq!(world.json(&["peers"])[0]["name"], "lap");
}

#[test]
fn what_the_user_wrote_stays() {
    let world = World::repository();
    let lived_in = "# mine\n[commit]  # about commits\nauthor = 'Ada'   # me\n\n# the end\n";
    std::fs::write(world.path(PATH), lived_in).expect("they can be written");
    world.ok(&["config", "set", "commit.author", "Bob"]);
    assert_eq!(file(&world), lived_in.replace("'Ada'", "\"Bob\""));
    // Set to what it is, nothing is written.
    let before = std::fs::metadata(world.path(PATH)).expect("it is there");
    world.ok(&["config", "set", "commit.author", "Bob"]);
    let after = std::fs::metadata(world.path(PATH)).expect("it is there");
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&before), std::os::unix::fs::MetadataExt::ino(&after));
    // A file that is gone means that nothing is set; it is made again.
    std::fs::remove_file(world.path(PATH)).expect("it is there");
    assert!(world.ok(&["config"]).lines().all(|line| line.ends_with(" (default)")));
    world.ok(&["config", "set", "node.name", "x"]);
    assert_eq!(file(&world), "[node]\nname = \"x\"\n");
}

#[test]
fn mistakes_are_named() {
    let world = World::repository();
    let err = world.fails(2, &["config", "get", "comit.author"]);
    is_an_error(&err);
    assert!(err.contains("hint: did you mean commit.author?"), "{err}");
    let err = world.fails(2, &["config", "set", "something", "else"]);
    is_an_error(&err);
    assert!(err.contains("commit.author, log.format, log.level, node.name"), "{err}");
    for args in [
        ["config", "set", "commit.author", ""].as_slice(),
        &["config", "set", "commit.author", "two\nlines"],
        &["config", "set", "serve.peer_rate", "1023"],
        &["config", "set", "serve.peer_rate", "a lot"],
        &["config", "set", "commit.author"],
        &["config", "get"],
        &["config", "frob"],
    ] {
        is_an_error(&world.fails(2, args));
    }
    let before = file(&world);
    std::fs::write(world.path(PATH), format!("{before}\n[commit]\nauthro = 'x'\n")).expect("they can be written");
    let line = before.lines().count() + 3;
    for args in [
        ["config"].as_slice(),
        &["config", "show"],
        &["config", "validate"],
        &["config", "get", "node.name"],
        &["config", "set", "node.name", "x"],
        &["commit", "--allow-empty"],
    ] {
        let err = world.fails(1, args);
        is_an_error(&err);
        assert!(err.contains(&format!(".filesync/config.toml: line {line}: unknown key \"commit.authro\"")), "{err}");
        assert!(err.contains("hint: did you mean commit.author?"), "{err}");
    }
    // Nothing else needs them.
    world.ok(&["status"]);
    world.ok(&["log"]);
    // It is no damage, and the store is looked at all the same; but it does not pass unnoticed.
    for args in [["fsck"].as_slice(), &["fsck", "--quick"]] {
        let output = world.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stdout).ends_with(": all is well\n"), "{args:?}");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        is_an_error(&err);
        assert!(err.contains("unknown key") && err.contains("hint: did you mean commit.author?"), "{err}");
    }
    assert_eq!(world.object(1, &["fsck"])["damaged"], json!([]));
    std::fs::write(world.path(PATH), b"\xff").expect("they can be written");
    assert!(world.fails(1, &["config"]).contains("not UTF-8"));
}
