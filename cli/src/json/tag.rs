//! `tag`.

use filesync_repo as repo;
use serde::Serialize;

#[derive(Serialize)]
pub struct Tag {
    name: String,
    commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<String>,
}

impl Tag {
    pub fn new(tag: &repo::Tag) -> Self {
        let id = |id: Option<repo::CommitId>| id.map(|id| id.to_string());
        Self { name: tag.name.clone(), commit: id(tag.commit), was: id(tag.was) }
    }
}
