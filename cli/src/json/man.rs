//! `man`.

use std::path::Path;

use serde::Serialize;

use super::Name;

#[derive(Serialize)]
pub struct Man {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    pages: Vec<String>,
}

impl Man {
    pub fn new(directory: &Path, pages: Vec<String>) -> Self {
        let name = Name::new(directory.as_os_str().as_encoded_bytes());
        Self { path: name.text, path_bytes: name.bytes, pages }
    }
}
