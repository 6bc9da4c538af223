//! What a restore beside the working copy would write: its dry run. Nothing is made.

use std::path::Path;

use filesync_merkle::{DirCursor, Node, RepoPath, TreeLink};

use super::directory::check_place;
use super::select::{Part, Place, Selection};
use super::{Context, DEPTH_MAX};
use crate::error::Error;
use crate::request::{PlannedStep, RestoreResult, Unreadable};

/// Says what [`super::to_directory`] would write, and fails where it would refuse to begin.
pub fn preview(ctx: &Context<'_>, target: TreeLink, paths: &[RepoPath], to: &Path) -> Result<RestoreResult, Error> {
    check_place(to)?;
    crate::limits::check_paths("restore", &target, u64::MAX)?;
    let selection = Selection::of(ctx, &target, paths, Place::Beside)?;
    let mut result = RestoreResult::default();
    let mut stack = vec![(RepoPath::root(), DirCursor::new(ctx.source, &target))];
    while let Some((dir, cursor)) = stack.last_mut() {
        crate::cancel::check()?;
        let (name, entry) = match cursor.next() {
            Some(Ok(next)) => next,
            Some(Err(error)) if error.is_damage() => {
                let (path, cause) = (dir.as_bytes().to_vec(), error.to_string());
                result.damaged.push(Unreadable { path, cause });
                stack.pop();
                continue;
            }
            Some(Err(error)) => return Err(error.into()),
            None => {
                stack.pop();
                continue;
            }
        };
        let path = dir.join(&name);
        let part = selection.part(&path);
        match entry.as_directory() {
            _ if part == Part::None => {}
            Some(_) if stack.len() >= DEPTH_MAX => return Err(super::too_deep(&path)),
            Some(link) => {
                let cursor = DirCursor::new(ctx.source, link);
                stack.push((path, cursor));
            }
            None if part == Part::All => {
                result.written += 1;
                result.bytes += if let Node::File { size, .. } = entry.node { size } else { 0 };
                result.plan.push(PlannedStep { action: "write", path: path.as_bytes().to_vec() });
            }
            None => {}
        }
    }
    Ok(result)
}
