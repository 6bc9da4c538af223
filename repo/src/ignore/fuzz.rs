//! Ignore files, which come with the trees of others, with bytes that are nearly right (G8).

use bolero::check;

use super::glob::Glob;
use super::*;
use crate::fuzz::fuzz;

const WORDS: [&[u8]; 12] = [b"*", b"**", b"/", b"\\", b"[", b"]", b"[!", b"[[:alpha:]]", b"-", b"!", b"?", b"{a,b}"];
const PATHS: [&[u8]; 6] =
    [b"foo", b"a/b/c", b"\xff\n", b"doc/x.tmp", b"[a]*?\\", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"];

#[test]
fn patterns() {
    let samples = ["foo", "*.tmp", "**/a/*b*/**", "a/**/b", "[a-z]?[!0-9]", "[[:digit:]x]\\*", "a*a*a*a*a*a*b", "[]-]"];
    let samples = samples.map(|pattern| pattern.as_bytes().to_vec());
    let tally = fuzz(&samples).words(&WORDS).open_ended().room(16 << 10, 256).run(check!(), |bytes| {
        for is_path in [false, true] {
            let glob = Glob::new(bytes, is_path);
            PATHS.iter().for_each(|path| _ = glob.matches(path));
            if !bytes.iter().any(|byte| b"*?[\\".contains(byte)) {
                assert!(glob.matches(bytes) && !glob.matches(&[bytes, b"x"].concat()), "letters stand for themselves");
            }
        }
        Some(bytes.to_vec())
    });
    tally.reaches(10_000);
}

/// Whole files, whose plain rules a library compiles.
#[test]
fn files() {
    let samples =
        ["*.tmp\n!keep.tmp\n", "/build/\r\nfoo\\ \n# no\n\n", "\u{feff}doc/**\n[a-\n", "{a,b}\n**/x/**\n", "a\0b\n"];
    let samples = samples.map(|file| file.as_bytes().to_vec());
    let words: Vec<&[u8]> = [&WORDS[..], &[b"\n", b"\r\n", b"#", b" \n", b"\0", b"\xff"]].concat();
    // A compiled set has its caches, whatever is in it.
    let fuzz = fuzz(&samples).words(&words).open_ended().room(1 << 20, 4096);
    let mut decided = 0u64;
    fuzz.run(check!(), |bytes| {
        let rules = Rules::default().with_file(b"a/", bytes);
        for path in PATHS {
            let path = [&b"a/"[..], path].concat();
            for is_directory in [false, true] {
                let verdict = rules.verdict(&path, is_directory);
                assert_eq!(
                    rules.leave_out(&path, is_directory),
                    verdict.as_ref().is_some_and(|verdict| !verdict.negated)
                );
                let Some(verdict) = verdict else { continue };
                decided += 1;
                let line = bytes.split(|byte| *byte == b'\n').nth(verdict.line - 1).expect("a line of the file");
                assert!(line.windows(verdict.rule.len()).any(|part| part == verdict.rule), "{verdict:?}");
            }
        }
        Some(bytes.to_vec())
    });
    assert!(decided > 10_000, "only {decided} were decided by a rule");
}
