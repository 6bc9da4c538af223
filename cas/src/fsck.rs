//! Reads everything and says what does not fit. Findings are data; nothing is changed.

use std::collections::HashSet;
use std::io;

use crate::error::GetError;
use crate::frame::{Frame, HEADER_LEN, Header};
use crate::hash::{ContentHash, Kind};
use crate::pack::{FrameAt, PACK_HEADER_LEN, read_footer, read_pack_header, walk_frames};
use crate::store::Store;
use crate::store::packs::{PackFile, open_pack};
use crate::vfs::{VfsFile, read_exact_at};

/// An object whose bytes are wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadObject {
    /// Which.
    pub id: ContentHash,
    /// Its kind, as the frame says.
    pub kind: Kind,
    /// What does not fit.
    pub cause: String,
}

/// What a reading of all packs found.
#[derive(Debug, Clone, Default)]
pub struct PackReport {
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Objects with wrong bytes.
    pub bad: Vec<BadObject>,
    /// What belongs to no object that is known.
    pub findings: Vec<String>,
}

/// How thoroughly packs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Checksums of what is stored, nothing decompressed.
    Stored,
    /// Every object decompressed and held against its hash.
    Objects,
}

impl Store {
    /// Bytes that [`Self::check_packs`] will read.
    pub fn packs_len(&self) -> u64 {
        self.inner.survey.packs.iter().map(|pack| pack.end.min(pack.len)).sum()
    }

    /// Reads all packs. `advance` is told of bytes and objects as they go by.
    pub fn check_packs(&self, depth: Depth, advance: &(dyn Fn(u64, u64) + Sync)) -> Result<PackReport, GetError> {
        let mut report = PackReport::default();
        for name in &self.inner.survey.missing {
            report.findings.push(format!("pack {name}: it is missing"));
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            let mut report = PackReport::default();
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(pack) = self.inner.survey.packs.get(at) else { return Ok(report) };
                self.check_pack(pack, depth, &mut report, advance)?;
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let reports: Vec<Result<PackReport, GetError>> = std::thread::scope(|scope| {
            let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).filter_map(spawn).collect();
            let mut reports = vec![work()];
            let panicked = || Err(GetError::Index("a thread that reads packs failed".to_owned()));
            reports.extend(others.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())));
            reports
        });
        for part in reports {
            let part = part?;
            report.objects += part.objects;
            report.bytes += part.bytes;
            report.bad.extend(part.bad);
            report.findings.extend(part.findings);
        }
        Ok(report)
    }

    fn check_pack(
        &self,
        pack: &PackFile,
        depth: Depth,
        report: &mut PackReport,
        advance: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(), GetError> {
        let name = pack.name;
        let path = if pack.sealed { name.sealed_path() } else { name.open_path() };
        let io = |source: io::Error| GetError::Io { path: path.clone(), source };
        if pack.is_short() {
            report.findings.push(format!("pack {name}: {} bytes long, {} were durable", pack.len, pack.end));
        }
        let file = match open_pack(&**self.vfs(), name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                report.findings.push(format!("pack {name}: it is missing"));
                return Ok(());
            }
            Err(error) => return Err(io(error)),
        };
        let header = match read_pack_header(&*file) {
            Ok(header) if header.name == name && header.repository == self.parameters().repository => header,
            Ok(_) => {
                report.findings.push(format!("pack {name}: it belongs elsewhere"));
                return Ok(());
            }
            Err(error) if error.is_damage() => {
                report.findings.push(format!("pack {name}: {error}"));
                return Ok(());
            }
            Err(error) => return Err(io(io::Error::other(error.to_string()))),
        };
        let mut end = pack.end.min(pack.len);
        let mut footer = None;
        if pack.sealed {
            match read_footer(&*file, pack.len) {
                Ok((frames, frames_end)) => {
                    footer = Some(frames);
                    end = frames_end;
                }
                Err(error) => report.findings.push(format!("pack {name}: {error}")),
            }
        }
        let mut seen = 0;
        let mut differs = false;
        let findings = std::cell::RefCell::new(Vec::new());
        walk_frames::<io::Error>(
            &*file,
            header.class,
            PACK_HEADER_LEN,
            end,
            &mut |header, frame| {
                differs |= footer.as_ref().is_some_and(|frames| frames.get(seen) != Some(&frame));
                seen += 1;
                let cause = self.check_frame(&*file, &header, &frame, depth, report)?;
                findings
                    .borrow_mut()
                    .extend(cause.map(|cause| format!("pack {name}: at byte {}: {cause}", frame.offset)));
                report.objects += frame.slots.len() as u64;
                report.bytes += header.frame_len();
                advance(header.frame_len(), frame.slots.len() as u64);
                Ok(())
            },
            &mut |at, cause| {
                // Behind the frames of a pack whose footer is bad lies that footer: already reported.
                if !(pack.sealed && footer.is_none()) {
                    findings.borrow_mut().push(format!("pack {name}: at byte {at}: {cause}"));
                }
                Ok(())
            },
        )
        .map_err(io)?;
        report.findings.extend(findings.into_inner());
        if let Some(frames) = footer {
            if differs || frames.len() != seen {
                report.findings.push(format!("pack {name}: its footer does not list its frames"));
            }
            self.note_lost(&frames, report, &file);
        }
        Ok(())
    }

    /// Objects that the footer lists in frames that no longer parse.
    fn note_lost(&self, frames: &[FrameAt], report: &mut PackReport, file: &std::sync::Arc<dyn VfsFile>) {
        for frame in frames {
            let class = crate::pack::Class::of(frame.slots.first().map_or(Kind::CHUNK, |slot| slot.kind));
            if crate::pack::read_frame_table(&**file, frame.offset, frame.end(), class).is_err() {
                let lost = frame.slots.iter();
                let cause = "its frame is damaged";
                report.bad.extend(lost.map(|slot| BadObject { id: slot.id, kind: slot.kind, cause: cause.to_owned() }));
            }
        }
    }

    /// Holds one frame against its checks; says what is wrong with it as a whole.
    fn check_frame(
        &self,
        file: &dyn VfsFile,
        header: &Header,
        frame: &FrameAt,
        depth: Depth,
        report: &mut PackReport,
    ) -> io::Result<Option<String>> {
        let mut payload = vec![0; header.stored_len as usize];
        read_exact_at(file, &mut payload, frame.offset + (HEADER_LEN + header.table_len()) as u64)?;
        let cause =
            if header.payload_fits(&payload) { None } else { Some("the check of a payload does not fit".to_owned()) };
        if depth == Depth::Stored && cause.is_none() {
            return Ok(None);
        }
        let mut all_bad = |cause: &str| {
            let bad =
                frame.slots.iter().map(|slot| BadObject { id: slot.id, kind: slot.kind, cause: cause.to_owned() });
            report.bad.extend(bad);
        };
        match Frame::decode(header, frame.slots.clone(), &payload) {
            Err(cause) => all_bad(&cause),
            Ok(decoded) => {
                for (at, slot) in frame.slots.iter().enumerate() {
                    if !decoded.verify(at, &*self.inner.schema) {
                        let cause = "its bytes do not have its hash".to_owned();
                        report.bad.push(BadObject { id: slot.id, kind: slot.kind, cause });
                    }
                }
            }
        }
        Ok(cause)
    }

    /// Follows everything that `roots` refer to and lists what is missing or unreadable: each id once.
    ///
    /// `bad` are objects that are known to be bad: they count as missing unless another copy reads well.
    pub fn check_closure(
        &self,
        roots: &[(Kind, ContentHash)],
        bad: &HashSet<ContentHash>,
    ) -> Result<Vec<BadObject>, GetError> {
        let mut found = Vec::new();
        let mut seen: HashSet<ContentHash> = HashSet::new();
        let mut open: Vec<(Kind, ContentHash)> = roots.to_vec();
        while let Some((kind, id)) = open.pop() {
            if kind.is_chunk() {
                let there = if bad.contains(&id) { self.get(kind, &id).is_ok() } else { self.contains(kind, &id)? };
                if !there && seen.insert(id) {
                    found.push(BadObject { id, kind, cause: "it is missing or damaged".to_owned() });
                }
                continue;
            }
            if !seen.insert(id) {
                continue;
            }
            let children = match self.get(kind, &id) {
                Ok(object) => self.inner.schema.children(kind, &object),
                Err(error) if error.is_damage() => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            match children {
                Ok(children) => open.extend(children),
                Err(cause) => found.push(BadObject { id, kind, cause }),
            }
        }
        Ok(found)
    }

    /// Whether the packs hold an object of this kind. An index that denies it is not taken at its word.
    fn contains(&self, kind: Kind, id: &ContentHash) -> Result<bool, GetError> {
        match self.inner.locate(id)? {
            Some(location) if location.kind == kind => Ok(true),
            _ => Ok(self.get(kind, id).is_ok()),
        }
    }

    /// Whether the index leads to an object; fsck of the index itself.
    pub fn is_indexed(&self, id: &ContentHash) -> bool {
        matches!(self.inner.index().lookup(id), Ok(Some(_)))
    }
}
