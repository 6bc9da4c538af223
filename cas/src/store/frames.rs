//! Objects gathered into frames, on the way to the packs.

use std::sync::Arc;

use super::Inner;
use crate::error::PutError;
use crate::frame::{FrameBuilder, META_TARGET, RAW_MAX};
use crate::hash::{ContentHash, Kind};
use crate::pack::Class;

/// How many raw bytes go into a frame of a class.
pub(crate) fn target_of(class: Class) -> usize {
    if class == Class::Data { RAW_MAX } else { META_TARGET }
}

/// A frame of each class that is being filled. One for each thread.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    inner: &'a Arc<Inner>,
    builders: [Option<FrameBuilder>; 2],
}

impl<'a> Frames<'a> {
    /// Empty ones.
    pub(crate) fn new(inner: &'a Arc<Inner>) -> Self {
        Self { inner, builders: [None, None] }
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_empty(&self) -> bool {
        self.builders.iter().flatten().all(|builder| builder.is_empty())
    }

    /// Adds an object that the format allows. Says how many bytes that made the packs grow by.
    pub(crate) fn push(&mut self, id: ContentHash, kind: Kind, bytes: &[u8]) -> Result<u64, PutError> {
        let class = Class::of(kind);
        let is_full = |builder: &FrameBuilder| !builder.has_room(bytes.len(), target_of(class));
        let grown = match self.builders[class as usize].as_ref().is_some_and(is_full) {
            true => self.flush_class(class)?,
            false => 0,
        };
        let builder = match &mut self.builders[class as usize] {
            Some(builder) => builder,
            empty => empty.insert(FrameBuilder::new(self.inner.params.codec).map_err(PutError::Unverified)?),
        };
        builder.push(id, kind, bytes);
        Ok(grown)
    }

    /// Writes what waits. What a frame held that fails is forgotten.
    pub(crate) fn flush(&mut self) -> Result<u64, PutError> {
        Class::ALL.into_iter().try_fold(0, |grown, class| Ok(grown + self.flush_class(class)?))
    }

    fn flush_class(&mut self, class: Class) -> Result<u64, PutError> {
        let Some(builder) = self.builders[class as usize].as_mut().filter(|builder| !builder.is_empty()) else {
            return Ok(0);
        };
        let slots = builder.slots().to_vec();
        let frame = builder.encode().map_err(PutError::Unverified);
        let result = frame.and_then(|frame| {
            self.inner.append(class, frame, &slots)?;
            Ok(frame.len() as u64)
        });
        builder.clear();
        result
    }
}
