use std::sync::Arc;

use filesync_cas::testing::{Fault, FaultVfs, LossVfs, Plan, Rng, Scope, crash_states, seeds};

use super::file::{parse, set};
use super::*;

const LIVED_IN: &str = "\
# mine
[ node ]  # a section
name = 'desk' # the old one

   # and this
[commit]
author=\"Ada\"  # me
# the end
";

fn values(text: &str) -> Vec<(&'static str, String)> {
    parse(text).unwrap_or_else(|wrong| panic!("{wrong}: {text}")).0.into_iter().collect()
}

#[test]
fn all_ways_to_write_it() {
    assert_eq!(values(""), []);
    assert_eq!(values("# nothing\n"), []);
    let both = [(AUTHOR, "Ada".to_owned()), (NODE_NAME, "desk".to_owned())];
    for text in [
        LIVED_IN,
        "commit.author = \"Ada\"\nnode.name = \"desk\"\n",
        "commit = { author = 'Ada' }\nnode = {name='desk'}",
        "[node]\nname = '''desk'''\n[commit]\n\"author\" = \"A\\u0064a\"\r\n",
    ] {
        assert_eq!(values(text), both, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, told, hint) in [
        ("[commit]\n\nauthro = 'x'\n", "line 3: unknown key \"commit.authro\"", Some("did you mean commit.author?")),
        ("# \n[comit]\nauthor = 'x'\n", "line 2: unknown key \"comit\"", Some("did you mean commit?")),
        ("[node]\nname = 'x'\n[other]\n", "line 3: unknown key \"other\"", None),
        ("x = 1", "line 1: unknown key \"x\"", None),
        ("commit = 1\n", "line 1: commit is a section: [commit]", None),
        ("\n[commit]\nauthor = 1\n", "line 3: commit.author must be a text in quotes", None),
        ("[commit]\nauthor = ''\n", "line 2: commit.author cannot be \"\": it is empty", None),
        ("[commit]\nauthor = \"a\\nb\"\n", "line 2: commit.author cannot be \"a\\nb\": it contains control", None),
        ("[commit]\nauthor.x = 'y'\n", "line 2: commit.author must be a text", None),
        ("[commit]\nauthor = 'a'\nauthor = 'b'\n", "line 3: duplicate key", None),
        ("[commit]\nauthor = \n", "line 2: ", None),
        ("[commit\n", "line 1: ", None),
    ] {
        let error = parse(text).unwrap_err().into_error();
        let message = error.to_string();
        assert!(message.starts_with(&format!("cannot use .filesync/config.toml: {told}")), "{text}: {message}");
        assert_eq!(error.hint().as_deref(), hint, "{text}");
        assert!(!message.contains('\n'), "{message}");
        // What is wrong is not made worse.
        assert!(set(text, NODE_NAME, "x").is_err(), "{text}");
    }
}

#[test]
fn comments_order_and_spaces_survive() {
    let changed = set(LIVED_IN, AUTHOR, "Bob \"B\" \\ <b@c>").unwrap();
    assert_eq!(changed, LIVED_IN.replace("\"Ada\"", "'Bob \"B\" \\ <b@c>'"));
    let changed = set(LIVED_IN, NODE_NAME, "lap").unwrap();
    assert_eq!(changed, LIVED_IN.replace("'desk'", "\"lap\""));
    assert_eq!(set("", AUTHOR, "Ada").unwrap(), "[commit]\nauthor = \"Ada\"\n");
    assert_eq!(set("# top\n", AUTHOR, "Ada").unwrap(), "# top\n\n[commit]\nauthor = \"Ada\"\n");
    assert_eq!(set("# top", AUTHOR, "Ada").unwrap(), "# top\n\n[commit]\nauthor = \"Ada\"\n");
    assert_eq!(
        set("[node]\nname = 'x'\n", AUTHOR, "Ada").unwrap(),
        "[node]\nname = 'x'\n\n[commit]\nauthor = \"Ada\"\n"
    );
    assert_eq!(set("node.name = 'x' # n\n", NODE_NAME, "y").unwrap(), "node.name = \"y\" # n\n");
    assert_eq!(set("node = { name = 'x' } # n\n", NODE_NAME, "y").unwrap(), "node = { name = \"y\" } # n\n");
}

#[test]
fn whatever_is_set_is_read_again() {
    for seed in seeds(0, 300, 20_000) {
        let mut rng = Rng::new(seed);
        let mut text = [LIVED_IN, "", "node = { }\n", "commit.author = \"a\""][rng.index(4)].to_owned();
        let mut model: BTreeMap<_, _> = parse(&text).unwrap().0;
        for _ in 0..10 {
            let key = [AUTHOR, NODE_NAME][rng.index(2)];
            let letters: Vec<char> = "a \"'\\#=[]{}.äß\u{1F600}".chars().collect();
            let value: String = (0..=rng.below(8)).map(|_| letters[rng.index(letters.len())]).collect();
            text = set(&text, key, &value).unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}: {text}"));
            model.insert(key, value);
            assert_eq!(parse(&text).unwrap().0, model, "seed {seed}: {text}");
        }
    }
}

#[test]
fn power_cuts_leave_the_old_or_the_new() {
    let start = LossVfs::new();
    create(&start, "old").unwrap();
    start.sync_all_files().unwrap();
    let old = read(&start).unwrap();
    let new = set(&old, NODE_NAME, "new").unwrap();
    crash_states(
        &start,
        0..100,
        |vfs| write(&*vfs, &new, 0o644),
        |_, told, left| {
            let found = read(&left).unwrap();
            assert!(found == new || (told.is_err() && found == old), "{told:?}: {found}");
        },
    );
    for at in 1.. {
        let inner = start.fork();
        let plan = Plan { scope: Scope::Mutating, at, fault: Fault::ErrorOnce(28) };
        let vfs = FaultVfs::with_plan(Arc::new(inner.clone()), plan);
        let told = write(&vfs, &new, 0o644);
        if !vfs.hit() {
            assert!(at > 4);
            break;
        }
        assert!(told.unwrap_err().to_string().starts_with("cannot write .filesync/config.toml: No space left"));
        assert!([&old, &new].contains(&&read(&inner).unwrap()));
    }
}

#[test]
fn the_table_is_sound() {
    assert!(SETTINGS.is_sorted_by_key(|setting| setting.key));
    for setting in &SETTINGS {
        assert_eq!(setting.key.matches('.').count(), 1, "{}", setting.key);
        (setting.check)(&(setting.default)()).unwrap();
    }
}
