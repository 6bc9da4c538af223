//! `tag`.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use filesync_repo::{Tag, TagRequest};

use super::commit::short;
use crate::context::{Context, hint_at_path, revision};
use crate::error::{Exit, Failure};
use crate::output::Paint;
use crate::{json, quote};

/// List, make or remove tags
///
/// A tag is a name for a commit, which never expires as long as it has one. Names are letters, digits and `._/-`;
/// what could be taken for an option or for a commit's id is none.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync tag                       the names of all tags; -v shows what they name
  filesync tag v1.0                  name the head
  filesync tag stable v1.0 --force   move a tag to another commit
  filesync tag --delete nightly/3")]
pub struct TagArgs {
    /// Which; without it, all are listed
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// What it is to name [default: HEAD]
    #[arg(value_name = "REV")]
    rev: Option<OsString>,
    /// Remove it
    #[arg(short, long, requires = "name", conflicts_with = "rev")]
    delete: bool,
    /// Move it if it is there
    #[arg(short, long, requires = "name")]
    force: bool,
}

pub fn run(args: TagArgs, context: &mut Context) -> Result<Exit, Failure> {
    let TagArgs { name, rev, delete, force } = args;
    let rev = revision(rev)?;
    let word = rev.clone();
    let request = match name {
        None => TagRequest::List,
        Some(name) if delete => TagRequest::Delete { name },
        Some(name) => TagRequest::Make { name, rev, force },
    };
    let tags = match &request {
        TagRequest::List => context.open_reader()?.tag(&request).map_err(Failure::from),
        TagRequest::Make { .. } | TagRequest::Delete { .. } => context.carry_out(request.clone()),
    };
    context.progress.finish();
    let tags = tags.map_err(|failure| failure.with_hint(|error| hint_at_path(error, word.as_deref())))?;
    if context.global.json {
        tags.iter().try_for_each(|tag| context.output.json(&json::Tag::new(tag)))
    } else {
        let (paint, verbose, chatty) = (context.output.paint, context.global.verbose > 0, context.is_chatty());
        match &request {
            TagRequest::List => list(&tags, verbose, paint, &mut context.output),
            _ if !chatty => Ok(()),
            TagRequest::Make { .. } => tags.iter().try_for_each(|tag| made(tag, paint, &mut context.output)),
            TagRequest::Delete { .. } => tags.iter().try_for_each(|tag| deleted(tag, paint, &mut context.output)),
        }
    }
    .map_err(Failure::Output)?;
    Ok(Exit::Done)
}

fn list(tags: &[Tag], verbose: bool, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    let width = tags.iter().map(|tag| tag.name.len()).max().unwrap_or(0);
    for tag in tags {
        let name = quote::name(tag.name.as_bytes());
        match verbose {
            true => writeln!(out, "{name:width$}  {}", id(tag, paint))?,
            false => writeln!(out, "{name}")?,
        }
    }
    Ok(())
}

fn made(tag: &Tag, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    let (name, id) = (quote::name(tag.name.as_bytes()), id(tag, paint));
    match tag.was {
        Some(was) => writeln!(out, "tag {name}: {id}, was {}", paint.id(&short(&was.to_string()))),
        None => writeln!(out, "tag {name}: {id}"),
    }
}

fn deleted(tag: &Tag, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "removed tag {}, was {}", quote::name(tag.name.as_bytes()), id(tag, paint))
}

fn id(tag: &Tag, paint: Paint) -> String {
    tag.commit.map_or_else(|| "damaged".to_owned(), |id| paint.id(&short(&id.to_string())))
}

#[cfg(test)]
mod tests {
    use filesync_repo::CommitId;

    use super::*;

    fn tag(name: &str, commit: Option<u8>, was: Option<u8>) -> Tag {
        let id = |byte: Option<u8>| byte.map(|byte| CommitId::from_bytes([byte; 32]));
        Tag { name: name.into(), commit: id(commit), was: id(was) }
    }

    fn shown(show: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        show(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_and_what_became_of_them() {
        let paint = Paint::new(false);
        let tags = [tag("a", Some(0xab), None), tag("long/er", Some(0xcd), None)];
        assert_eq!(shown(|out| list(&tags, false, paint, out)), "a\nlong/er\n");
        assert_eq!(shown(|out| list(&tags, true, paint, out)), "a        abababababab\nlong/er  cdcdcdcdcdcd\n");
        assert_eq!(shown(|out| made(&tags[0], paint, out)), "tag a: abababababab\n");
        let moved = tag("a", Some(0xab), Some(0xcd));
        assert_eq!(shown(|out| made(&moved, paint, out)), "tag a: abababababab, was cdcdcdcdcdcd\n");
        assert_eq!(shown(|out| deleted(&tags[0], paint, out)), "removed tag a, was abababababab\n");
        assert_eq!(shown(|out| deleted(&tag("a", None, None), paint, out)), "removed tag a, was damaged\n");
    }
}
