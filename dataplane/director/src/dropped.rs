//! Frames that were dropped, for who wants to look at them: as they were then, and why.
//!
//! Nobody looks most of the time; then frames are let go where their drop is counted, and nothing is kept here.

use crate::buffer::Pool;
use crate::engine::Context;
use crate::reason::Reason;

/// A frame that was dropped.
#[derive(Debug)]
pub struct Dropped<B> {
    /// Number of the port that it came in by.
    pub port: u16,
    /// Why.
    pub reason: Reason,
    /// The frame: as it came, or as far as it was on its way out (rewritten, its padding cut off).
    pub buf: B,
}

/// Dropped frames of a step; the caller empties it and uses it again.
#[derive(Debug)]
pub struct Drops<B> {
    /// The frames, no more than there is room for.
    pub frames: Vec<Dropped<B>>,
    /// How many more there were.
    pub lost: u64,
}

impl<B> Drops<B> {
    /// Room for `frames`.
    pub fn with_capacity(frames: usize) -> Drops<B> {
        Drops { frames: Vec::with_capacity(frames), lost: 0 }
    }
}

impl<P: Pool> Context<'_, P> {
    /// Lets a frame go whose drop has been counted.
    #[inline]
    pub(crate) fn let_go(&mut self, port: u16, reason: Reason, buf: P::Buf) {
        let Some(drops) = &mut self.out.drops else { return };
        match drops.frames.len() < drops.frames.capacity() {
            true => drops.frames.push(Dropped { port, reason, buf }),
            false => drops.lost += 1,
        }
    }

    /// Keeps a frame that could not be sent for who counts that: [`Context::let_refused_go`].
    #[inline]
    pub(crate) fn refuse(&mut self, buf: P::Buf) {
        if self.out.drops.is_some() {
            self.refused = Some(buf);
        }
    }

    /// Lets the frame go that was last refused, and now has been counted.
    #[inline]
    pub(crate) fn let_refused_go(&mut self, port: u16, reason: Reason) {
        if let Some(buf) = self.refused.take() {
            self.let_go(port, reason, buf);
        }
    }
}
