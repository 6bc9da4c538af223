//! Settings that are nearly right (G8).

use bolero::check;

use super::file::{parse, set};
use super::*;
use crate::fuzz::fuzz;

#[test]
fn settings() {
    let samples = [
        "# mine\n[ node ]  # a section\nname = 'desk' # the old one\n[commit]\nauthor=\"Ada\"  # me\n",
        "commit.author = \"Ad\\u00e4\"\nnode.name = \"desk\"\n",
        "commit = { author = 'Ada' }\nnode = {name='desk'}",
        "[log]\nformat = \"json\"\nlevel = '''debug'''\r\n[serve]\nexpose_http = \"\"\"yes\"\"\"\n",
        "",
    ];
    let samples = samples.map(|text| text.as_bytes().to_vec());
    let words: [&[u8]; 14] = [
        b"[",
        b"]",
        b"[[",
        b"{",
        b"}",
        b".",
        b"=",
        b"\n",
        b"\"\"\"",
        b"'''",
        b"\\u0000",
        b"\xef\xbb\xbf",
        b"commit.author",
        b"1979-05-27T00:32:00Z",
    ];
    let fuzz = fuzz(&samples).words(&words).open_ended().room(64 << 10, 4096);
    let tally = fuzz.run(check!(), |bytes| {
        let text = std::str::from_utf8(bytes).ok()?;
        let before = parse(text).ok()?;
        // What can be read can be changed, and nothing else changes with it.
        if let Ok(changed) = set(text, NODE_NAME, "other") {
            let mut after = parse(&changed).expect("it was just set").0;
            assert_eq!(after.insert(NODE_NAME, String::new()).as_deref(), Some("other"));
            let mut before = before.0;
            before.insert(NODE_NAME, String::new());
            assert_eq!(after, before, "{changed}");
        }
        Some(bytes.to_vec())
    });
    tally.reaches(1_000);
}

/// As deep as the file may be long.
#[test]
fn depth_is_refused() {
    let most = usize::try_from(LEN_MAX).expect("small") / 4;
    for (open, close) in [("[", "]"), ("{a=", "}")] {
        let text = format!("commit = {}1{}", open.repeat(most), close.repeat(most));
        assert!(parse(&text).is_err(), "{open}");
    }
    for deep in [format!("{}a = 1", "a.".repeat(most)), format!("[{}a]", "a.".repeat(most)), "[[a]]\n".repeat(most / 2)]
    {
        assert!(parse(&deep).is_err());
    }
}
