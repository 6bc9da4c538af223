//! The walk: three sides of one directory after the other, depth first. Nothing recurses.

use std::os::fd::AsFd;

use filesync_cas::Chunker;
use filesync_merkle::{CommitId, DirCursor, Entry, Mode, Name, RepoPath, Timestamp, TreeLink, WalkError};

use super::disk::{Here, Names};
use super::{Finish, Old, Plan, Proofs, Step, seen};
use crate::error::Error;
use crate::request::{Event, Unreadable, Warning};
use crate::restore::decide::{Facts, Flags, Present, Side, Verdict, decide};
use crate::restore::held::{Held, held};
use crate::restore::present::{self, Cut, Found};
use crate::restore::select::{Part, Selection};
use crate::restore::{Context, DEPTH_MAX, too_deep};
use crate::scan::{Kind, Scan, ScanError, ScanOptions, Stat};
use crate::worktree::{clock, look, os_path};

/// What becomes of a directory once all in it has been seen.
enum End {
    /// It stays.
    Stay,
    /// It goes if nothing in it stays.
    Remove,
    /// It makes room for a file if nothing in it stays; otherwise nothing in it is touched.
    Clear(Entry),
}

/// A directory to be walked.
struct Below {
    path: RepoPath,
    part: Part,
    target: Option<TreeLink>,
    head: Option<TreeLink>,
    /// How it looks, if it is on disk.
    stat: Option<Stat>,
    on_disk: bool,
    in_the_way: bool,
    end: End,
}

/// A directory that is being walked.
struct Frame {
    dir: Below,
    /// What is left to walk, the first one last.
    below: Vec<Below>,
    /// Something stays in it that the target lacks.
    stays: bool,
    /// Names in it change.
    changes: bool,
    /// How long the lists of the plan were.
    steps_from: usize,
    skipped_from: usize,
}

pub struct Planner<'a> {
    ctx: &'a Context<'a>,
    flags: Flags,
    selection: &'a Selection,
    proofs: &'a mut Proofs,
    scan: Scan,
    chunker: Chunker,
    stamp: Timestamp,
    plan: Plan,
    frames: Vec<Frame>,
}

impl<'a> Planner<'a> {
    pub fn new(
        ctx: &'a Context<'a>,
        commit: CommitId,
        flags: Flags,
        selection: &'a Selection,
        proofs: &'a mut Proofs,
    ) -> Result<Self, Error> {
        let io = |error: std::io::Error| Error::io("cannot read the working copy", &error);
        // Before anything is looked at: what is younger than this may change without its times telling.
        let stamp = match ctx.store.is_writable() {
            true => clock(&**ctx.store.vfs()).map_err(io)?,
            // A dry run beside a writer, or where nothing can be written: this plan is not carried out.
            false => Timestamp::default(),
        };
        let root = ctx.work_fd.try_clone_to_owned().map_err(io)?;
        Ok(Self {
            ctx,
            flags,
            selection,
            proofs,
            scan: Scan::start(root, ctx.cache.clone(), ScanOptions::default()),
            chunker: Chunker::new(ctx.store.parameters().chunks),
            stamp,
            plan: Plan::new(commit),
            frames: Vec::new(),
        })
    }

    pub fn run(mut self, target: TreeLink) -> Result<Plan, Error> {
        self.enter(Below {
            path: RepoPath::root(),
            part: self.selection.part(&RepoPath::root()),
            target: Some(target),
            head: self.ctx.head_tree,
            stat: None,
            on_disk: true,
            in_the_way: false,
            end: End::Stay,
        })?;
        while let Some(frame) = self.frames.last_mut() {
            crate::cancel::check()?;
            match frame.below.pop() {
                Some(below) => self.enter(below)?,
                None => self.leave(),
            }
        }
        // From the inside out. Of two for one path, that counts which says what it is to be.
        self.plan.modes.sort_by(|a, b| b.path.cmp(&a.path).then(b.new.is_some().cmp(&a.new.is_some())));
        self.plan.modes.dedup_by(|a, b| a.path == b.path);
        Ok(self.plan)
    }

    /// Walks the names of a directory; its subdirectories wait.
    fn enter(&mut self, dir: Below) -> Result<(), Error> {
        if self.frames.len() > DEPTH_MAX {
            return Err(too_deep(&dir.path));
        }
        let names = match dir.on_disk.then(|| self.scan.dir(&dir.path)).transpose() {
            Ok(names) => names.map(Names::new),
            Err(error) => return self.unscanned(&dir.path, error),
        };
        let source = self.ctx.source;
        let open = |link: Option<TreeLink>| {
            link.filter(|link| *link != TreeLink::empty()).map(|link| DirCursor::new(source, &link))
        };
        let mut sides = Sides { target: open(dir.target), head: None, names };
        if sides.names.is_some() && dir.head != dir.target {
            sides.head = open(dir.head);
        }
        let same = sides.names.is_some() && dir.head.is_some() && dir.head == dir.target;
        let (steps_from, skipped_from) = (self.plan.steps.len(), self.plan.skipped.len());
        let mut frame = Frame { dir, below: Vec::new(), stays: false, changes: false, steps_from, skipped_from };
        loop {
            let (name, target, head, here) = match sides.next() {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(Trouble::Walk(error)) if error.is_damage() => {
                    // What the target has here is not known: nothing more is decided.
                    let (path, cause) = (frame.dir.path.as_bytes().to_vec(), error.to_string());
                    self.plan.damaged.push(Unreadable { path, cause });
                    frame.stays = true;
                    break;
                }
                Err(Trouble::Walk(error)) => return Err(error.into()),
                Err(Trouble::Scan(error)) => {
                    self.unscanned(&frame.dir.path, error)?;
                    frame.stays = true;
                    break;
                }
            };
            let head = if same { target.clone() } else { head };
            match Name::new(&name) {
                Ok(name) => self.name(&mut frame, &name, target, head, here)?,
                // Never tracked.
                Err(_) => frame.stays = true,
            }
        }
        frame.below.reverse();
        self.frames.push(frame);
        Ok(())
    }

    /// What cannot be scanned stays as it is.
    fn unscanned(&mut self, path: &RepoPath, error: ScanError) -> Result<(), Error> {
        if matches!(error, ScanError::TooDeep { .. }) {
            return Err(error.into());
        }
        let (message, bytes) = (error.to_string(), path.as_bytes().to_vec());
        self.ctx.observer.event(Event::Warning(Warning { path: Some(bytes), message }));
        self.plan.skipped.push(path.clone());
        if let Some(above) = self.frames.last_mut() {
            above.stays = true;
        }
        Ok(())
    }

    fn leave(&mut self) {
        let Some(frame) = self.frames.pop() else { return };
        let Frame { dir, stays, changes, steps_from, skipped_from, .. } = frame;
        let Below { path, target, stat, end, .. } = dir;
        if changes && let Some(link) = target {
            self.plan.links.insert(path.clone(), link);
        }
        let old = stat.map(Old::Directory);
        let above = self.frames.last_mut();
        match (end, old) {
            (End::Remove, Some(old)) if !stays => {
                self.plan.steps.push(Step { path: path.clone(), old, new: None });
                above.into_iter().for_each(|above| above.changes = true);
            }
            (End::Clear(entry), Some(old)) if !stays => {
                self.plan.steps.push(Step { path: path.clone(), old, new: Some(entry) });
                above.into_iter().for_each(|above| above.changes = true);
            }
            (End::Clear(_), _) => {
                self.plan.steps.truncate(steps_from);
                self.plan.skipped.truncate(skipped_from);
                self.plan.skipped.push(path);
                return;
            }
            (End::Remove, _) => above.into_iter().for_each(|above| above.stays = true),
            (End::Stay, _) => {}
        }
        if let Some(stat) = stat
            && changes
            && stat.mode & 0o700 != 0o700
        {
            self.plan.opens.push((path.clone(), stat));
            self.plan.modes.push(Finish { path, old: Some(stat), new: None });
        }
    }

    /// Decides about one name.
    fn name(
        &mut self,
        frame: &mut Frame,
        name: &Name,
        target: Option<Entry>,
        head: Option<Entry>,
        mut here: Option<Here>,
    ) -> Result<(), Error> {
        let path = frame.dir.path.join(name);
        let part = if frame.dir.part == Part::All { Part::All } else { self.selection.part(&path) };
        if part == Part::None {
            frame.stays |= here.is_some();
            return Ok(());
        }
        // Nobody asked for what is ignored, and nobody needs to.
        if target.is_none() && head.is_none() && here.as_ref().is_some_and(|here| here.ignored) {
            frame.stays = true;
            return Ok(());
        }
        if let Some(here) = &mut here
            && here.stat.is_none()
            && here.kind.is_some()
        {
            here.stat = look(&*self.ctx.work, os_path(&path)).ok().flatten();
        }
        let link = target.as_ref().and_then(Entry::as_directory).copied();
        if part == Part::Some && (link.is_none() || !self.selection.is_wanted(&path)) {
            // On the way to something that the target lacks, and that may be there to be deleted.
            frame.stays |= here.is_some();
            if let Some(Here { kind: Some(Kind::Directory), stat, .. }) = here {
                let head = head.as_ref().and_then(Entry::as_directory).copied();
                let end = End::Stay;
                frame.below.push(Below { path, part, target: link, head, stat, on_disk: true, in_the_way: false, end });
            }
            return Ok(());
        }
        let mut facts = Facts {
            target: match &target {
                None => Side::Nothing,
                Some(entry) if entry.is_directory() => Side::Directory,
                Some(_) => Side::Leaf,
            },
            present: present_of(here.as_ref()),
            tracked: head.is_some(),
            ignored: here.as_ref().is_some_and(|here| here.ignored),
            in_the_way: frame.dir.in_the_way,
            flags: self.flags,
        };
        let mut old = match &here {
            Some(Here { stat: Some(stat), .. }) => seen(*stat, None, self.stamp),
            _ => Old::Nothing,
        };
        let mut verdict = decide(&facts);
        if verdict == Verdict::Read {
            (facts.present, old) = self.read(&path, here.as_mut(), target.as_ref(), head.as_ref())?;
            verdict = decide(&facts);
        }
        self.carry_out(frame, Decided { path, part, target, head, here, old, verdict });
        Ok(())
    }

    fn carry_out(&mut self, frame: &mut Frame, decided: Decided) {
        let Decided { path, part, target, head, here, old, verdict } = decided;
        let link = target.as_ref().and_then(Entry::as_directory).copied();
        let head_link = head.as_ref().and_then(Entry::as_directory).copied();
        let stat = here.as_ref().and_then(|here| here.stat);
        let in_the_way = frame.dir.in_the_way;
        let below = |on_disk: bool, target, end| Below {
            path: path.clone(),
            part,
            target,
            head: head_link,
            stat: stat.filter(|_| on_disk),
            on_disk,
            in_the_way,
            end,
        };
        match verdict {
            Verdict::Nothing => {}
            Verdict::Leave => frame.stays = true,
            Verdict::Unchanged => self.plan.unchanged += 1,
            Verdict::Skip | Verdict::Read => {
                frame.stays = true;
                self.plan.skipped.push(path);
            }
            Verdict::Delete | Verdict::Write => {
                frame.changes = true;
                let new = target.filter(|_| verdict == Verdict::Write);
                self.plan.steps.push(Step { path, old, new });
            }
            Verdict::Mkdir | Verdict::Supplant => {
                frame.changes = true;
                frame.below.push(below(false, link, End::Stay));
                if let Some(entry) = &target
                    && (!owner_may_all(entry.mode) || entry.attrs.is_some())
                {
                    self.plan.modes.push(Finish { path: path.clone(), old: None, new: target.clone() });
                }
                self.plan.steps.push(Step { path, old, new: target });
            }
            Verdict::Enter => {
                frame.below.push(below(true, link, End::Stay));
                if let (Some(entry), Some(stat), Part::All) = (&target, stat, part) {
                    let attrs = here.and_then(|here| here.cached).or(head).and_then(|entry| entry.attrs);
                    if entry.mode != stat.permissions() || entry.attrs != attrs {
                        self.plan.modes.push(Finish { path, old: Some(stat), new: target });
                    }
                }
            }
            Verdict::Sweep => frame.below.push(below(true, None, End::Remove)),
            Verdict::Clear => {
                let end = target.map_or(End::Stay, End::Clear);
                let cleared = Below { in_the_way: true, ..below(true, None, end) };
                frame.below.push(cleared);
            }
        }
    }

    /// Whether a commit has the bytes of what stands on disk. What HEAD cannot answer is taken for granted and noted:
    /// all such questions are answered at once in the end, and if one is denied, the plan is made again.
    fn is_held(&mut self, entry: &Entry, head: Option<&Entry>) -> Result<bool, Error> {
        Ok(match held(self.ctx.store, self.ctx.source, entry, head)? {
            Held::Yes => true,
            Held::No => false,
            Held::If(pieces) if pieces.iter().any(|piece| self.proofs.in_no_commit.contains(piece)) => false,
            Held::If(pieces) => {
                self.proofs.wanted.extend(pieces);
                true
            }
        })
    }

    /// Learns what a file or symlink holds.
    fn read(
        &mut self,
        path: &RepoPath,
        here: Option<&mut Here>,
        target: Option<&Entry>,
        head: Option<&Entry>,
    ) -> Result<(Present, Old), Error> {
        let cached = here.and_then(|here| here.cached.take().zip(here.stat));
        let found = match cached {
            Some((entry, stat)) => Found::Leaf(entry, stat),
            None => {
                let cut = Cut { chunker: self.chunker, nodes: self.ctx.source, known: [target, head] };
                present::read(&*self.ctx.work, self.ctx.work_fd.as_fd(), cut, path)
                    .map_err(|error| Error::io(format_args!("cannot read {path}"), &error))?
            }
        };
        Ok(match found {
            Found::Nothing => (Present::Nothing, Old::Nothing),
            Found::Directory(_) => (Present::Hidden, Old::Nothing),
            Found::Other(stat) => (Present::Other, seen(stat, None, self.stamp)),
            Found::Leaf(entry, stat) => {
                let same = target.is_some_and(|target| target.same(&entry));
                let known = same || self.is_held(&entry, head)?;
                let present = Present::Leaf { same, known, symlink: stat.kind == Kind::Symlink };
                (present, seen(stat, Some(entry), self.stamp))
            }
        })
    }
}

struct Decided {
    path: RepoPath,
    part: Part,
    target: Option<Entry>,
    head: Option<Entry>,
    here: Option<Here>,
    old: Old,
    verdict: Verdict,
}

fn present_of(here: Option<&Here>) -> Present {
    match here {
        None => Present::Nothing,
        Some(Here { kind: None, .. } | Here { stat: None, .. }) => Present::Hidden,
        Some(Here { stat: Some(stat), .. }) => match stat.kind {
            Kind::Directory => Present::Directory,
            Kind::File | Kind::Symlink => Present::Unread,
            Kind::Other => Present::Other,
        },
    }
}

fn owner_may_all(mode: Mode) -> bool {
    mode.bits() & 0o700 == 0o700
}

enum Trouble {
    Walk(WalkError),
    Scan(ScanError),
}

/// The three sides of a directory.
struct Sides<'s> {
    target: Option<DirCursor<'s>>,
    head: Option<DirCursor<'s>>,
    names: Option<Names>,
}

type Next = (Vec<u8>, Option<Entry>, Option<Entry>, Option<Here>);

impl Sides<'_> {
    /// The next name that any side has, and what each has there.
    fn next(&mut self) -> Result<Option<Next>, Trouble> {
        let target = match &mut self.target {
            Some(cursor) => cursor.peek().map_err(Trouble::Walk)?.map(|(name, _)| name.as_bytes().to_vec()),
            None => None,
        };
        let head = match self.head.as_mut().map(DirCursor::peek) {
            Some(Ok(next)) => next.map(|(name, _)| name.as_bytes().to_vec()),
            Some(Err(error)) if error.is_damage() => {
                // Then less counts as tracked, and less may go.
                self.head = None;
                None
            }
            Some(Err(error)) => return Err(Trouble::Walk(error)),
            None => None,
        };
        let here = match &mut self.names {
            Some(names) => names.peek().map_err(Trouble::Scan)?.map(<[u8]>::to_vec),
            None => None,
        };
        let Some(name) = [&target, &head, &here].into_iter().flatten().min().cloned() else { return Ok(None) };
        let take = |cursor: &mut Option<DirCursor<'_>>, at: Option<Vec<u8>>| match cursor {
            Some(cursor) if at.as_ref() == Some(&name) => {
                cursor.next().transpose().map(|next| next.map(|(_, entry)| entry)).map_err(Trouble::Walk)
            }
            _ => Ok(None),
        };
        let target = take(&mut self.target, target)?;
        let head = take(&mut self.head, head)?;
        let here = match &mut self.names {
            Some(names) if here.as_ref() == Some(&name) => names.next(),
            _ => None,
        };
        Ok(Some((name, target, head, here)))
    }
}
