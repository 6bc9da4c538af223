//! The vectors of the files that a store writes, in `tests/testdata/vectors.json`, which another reader of `docs/format.md` has
//! made: each is read, and encoded again as it is.

use std::path::Path;

use crate::damaged::Damaged;
use crate::hash::unhex;
use crate::head::Head;
use crate::params::Params;

/// An object a line.
fn vector(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/testdata/vectors.json");
    let text = std::fs::read_to_string(path).unwrap();
    let begin = format!("{{\"file\": \"{name}\", \"hex\": \"");
    let hex = text.lines().find_map(|line| line.strip_prefix(&begin)?.split('"').next());
    unhex(hex.unwrap_or_else(|| panic!("{name} has no vector"))).unwrap()
}

#[test]
fn vectors_of_files_are_what_is_written() {
    let again = |name: &str, bytes: &[u8]| match name {
        "format" => Params::decode(bytes).unwrap().encode(),
        "HEAD" => Head::decode(bytes).unwrap().encode(),
        _ => Damaged::decode(bytes).unwrap().encode(),
    };
    for name in ["format", "HEAD", "damaged"] {
        let bytes = vector(name);
        assert_eq!(again(name, &bytes).escape_ascii().to_string(), bytes.escape_ascii().to_string(), "{name}");
    }
}
