//! `serve` and `stop`.

use std::path::Path;

use serde::Serialize;

use super::Name;

#[derive(Serialize)]
pub struct Serve {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    pid: u32,
    http: Option<String>,
}

impl Serve {
    pub fn new(root: &Path, pid: u32, http: Option<String>) -> Self {
        let name = Name::new(root.as_os_str().as_encoded_bytes());
        Self { path: name.text, path_bytes: name.bytes, pid, http }
    }
}

#[derive(Serialize)]
pub struct Stop {
    pub pid: u32,
}
