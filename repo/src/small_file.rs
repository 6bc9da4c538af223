//! Small files of a repository, each with its own decoder: read whole, or not there; replaced whole.

use std::io;
use std::path::Path;

use filesync_cas::vfs::{Vfs, read_to_end, replace};

use crate::error::{Error, ErrorKind};

/// Reads one; none if it is not there. One that does not decode is damaged.
pub fn read<T>(
    vfs: &dyn Vfs,
    path: &str,
    len_max: u64,
    decode: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<Option<T>, Error> {
    let bytes = match read_to_end(vfs, Path::new(path), len_max) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::path("cannot read", Path::new(path), &error)),
    };
    let damaged = |cause| Error::new(ErrorKind::Damage, format!("{path}: damaged: {cause}"));
    decode(&bytes).map(Some).map_err(damaged)
}

/// Replaces one. Durable on return.
pub fn write(vfs: &dyn Vfs, path: &str, bytes: &[u8]) -> Result<(), Error> {
    let path = Path::new(path);
    replace(vfs, path, bytes, 0o644).map_err(|error| Error::path("cannot write", path, &error))
}
