//! `upgrade`: from the format of an older version to the one that is written, a step a version.
//!
//! The file `format` decides what a repository is. A step makes what the next version needs beside what is there,
//! durably, so that all of it still is what the old version says; then `format` is replaced, which is the only moment at
//! which anything changes. Cut off anywhere, the repository has the old version or the new one, and the same again goes
//! on. What only the old version needed is left to the next writer.

use std::path::Path;

use filesync_cas::lock::WriterLock;
use filesync_cas::params::{FORMAT, ParamsError, version};
use filesync_cas::vfs::{RealVfs, Vfs, read_to_end, replace};

use crate::error::{Error, ErrorKind};
use crate::repo::{OpenOptions, store_dir};
use crate::request::UpgradeResult;

const PATH: &str = "format";
/// The longest `format` that there is.
const LEN_MAX: u64 = 1 << 20;

/// Makes what the next version needs; the file `format` that is to be. It is given the one that is there, may be run
/// again after it was cut off, and refuses features that it does not know.
type Prepare = fn(&dyn Vfs, &[u8]) -> Result<Vec<u8>, Error>;

/// What leads from one version of the format to the next.
struct Step {
    from: u32,
    prepare: Prepare,
}

/// The steps, from the first version on. There is one version so far.
const STEPS: [Step; 0] = [];

/// Brings a repository of an older version up to date. `None` if it is none: it opens then, or says itself why not.
pub fn upgrade(root: &Path, options: &OpenOptions) -> Result<Option<UpgradeResult>, Error> {
    bring_up(root, options, &STEPS, FORMAT)
}

fn bring_up(root: &Path, options: &OpenOptions, steps: &[Step], newest: u32) -> Result<Option<UpgradeResult>, Error> {
    let (_, dir) = store_dir(root, options)?;
    let vfs = RealVfs::open(&dir).map_err(|error| Error::path("cannot open", &dir, &error))?;
    let is_older = read_to_end(&vfs, Path::new(PATH), LEN_MAX).is_ok_and(|bytes| is_older(&bytes, newest));
    if !is_older {
        return Ok(None);
    }
    // Whoever had the lock until now may have done it.
    let _lock = WriterLock::take(&dir, "upgrade", options.lock_timeout)?;
    climb(&vfs, steps, newest).map(Some)
}

fn is_older(bytes: &[u8], newest: u32) -> bool {
    version(bytes).is_ok_and(|version| version < newest)
}

/// Takes one step after the other. With the lock in hand.
fn climb(vfs: &dyn Vfs, steps: &[Step], newest: u32) -> Result<UpgradeResult, Error> {
    let failed = |error: std::io::Error| Error::io("cannot upgrade: format", &error);
    let mut upgraded = false;
    loop {
        let bytes = read_to_end(vfs, Path::new(PATH), LEN_MAX).map_err(failed)?;
        let format = version(&bytes).map_err(not_understood)?;
        if format == newest {
            return Ok(UpgradeResult { format, upgraded });
        }
        let step = steps.iter().find(|step| step.from == format).ok_or_else(|| {
            let message = format!("cannot upgrade: nothing leads from version {format} of the format to {newest}");
            Error::new(ErrorKind::Failed, message)
        })?;
        let next = (step.prepare)(vfs, &bytes)?;
        assert_eq!(version(&next), Ok(format + 1), "a step leads to the next version");
        replace(vfs, Path::new(PATH), &next, 0o644).map_err(failed)?;
        upgraded = true;
    }
}

fn not_understood(error: ParamsError) -> Error {
    match error {
        ParamsError::Damaged(cause) => Error::new(ErrorKind::Damage, format!("format: damaged: {cause}")),
        ParamsError::Unsupported(cause) => Error::new(ErrorKind::Failed, format!("cannot upgrade: format: {cause}")),
    }
}

#[cfg(test)]
mod tests;
