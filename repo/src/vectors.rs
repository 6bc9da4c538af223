//! The vectors of small files in `tests/testdata/vectors.json`, which another reader of `docs/format.md` has made: each is read,
//! and written again as it is.

use std::path::Path;

use filesync_cas::pin;
use filesync_cas::vfs::Vfs;
use serde_json::Value;

use crate::cluster::member;
use crate::cluster::outbox::{self, Outbox};
use crate::cluster::remote::{self, Remote};
use crate::collected;
use crate::expired::{self, Expired};
use crate::fuzz::{content, empty, holding};
use crate::identity::Identity;
use crate::journal::{self, Journal};
use crate::parts::{self, Copied};
use crate::tags;
use crate::tags::wishes::{self, Wishes};

fn vectors() -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/testdata/vectors.json");
    let all: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let files = all.iter().filter_map(|vector| Some((text(&vector["file"])?, text(&vector["hex"])?)));
    files.map(|(name, hex)| (name, filesync_cas::hash::unhex(&hex).unwrap())).collect()
}

/// Reads the file at `path` on one file system, and writes what it says to another.
fn copy(path: &str, from: &dyn Vfs, to: &dyn Vfs) {
    match path {
        expired::PATH => Expired::read(from).unwrap().write(to).unwrap(),
        "identity" => Identity::load(from).unwrap().save(to).unwrap(),
        "refs/tags/v1" => tags::set(to, "v1", tags::find(from, "v1").unwrap().unwrap()).unwrap(),
        journal::PATH => Journal::read(from).unwrap().unwrap().unwrap().write(to).unwrap(),
        member::PATH => member::write(to, member::read(from).unwrap().unwrap()).unwrap(),
        parts::PATH => Copied::read(from).unwrap().write(to).unwrap(),
        remote::PATH => Remote::read(from).unwrap().unwrap().write(to).unwrap(),
        outbox::PATH => Outbox::read(from).unwrap().write(to).unwrap(),
        collected::PATH => collected::write(to, &collected::read(from).unwrap()).unwrap(),
        wishes::PATH => Wishes::read(from).unwrap().unwrap().write(to).unwrap(),
        _ => {
            let [pin] = pin::all(from).unwrap().try_into().unwrap();
            pin::put(to, &pin).unwrap();
        }
    }
}

#[test]
fn vectors_of_files_are_what_is_written() {
    // Those that `cas` writes are tried there.
    let elsewhere = ["format", "HEAD", "damaged", "pack header", "frame, raw", "frame, zstd"];
    let mut tried = 0;
    for (name, bytes) in vectors() {
        if elsewhere.contains(&name.as_str()) || name.contains("pack, ") {
            continue;
        }
        let pin = format!("pins/{}", "a".repeat(64));
        let path = match name.as_str() {
            "refs/tags/NAME" => "refs/tags/v1",
            "pins/ID" => &pin,
            other => other,
        };
        let written = empty();
        copy(path, &holding(path, &bytes), &written);
        assert_eq!(content(&written, path).escape_ascii().to_string(), bytes.escape_ascii().to_string(), "{name}");
        tried += 1;
    }
    assert!(tried >= 12, "only {tried} vectors");
}
