//! What only some sessions need, apart from the sessions: arenas as large as theirs, whose memory is touched as such
//! sessions come.

use fulcrum_machine::{prefetch_at, vec_on_huge_pages};

use super::{Broad, NONE, SessionId};
use crate::stream::Edits;

/// Index into such an arena.
pub(crate) type SideId = u32;

/// No place in it.
pub(crate) const NOWHERE: SideId = SideId::MAX;

/// Addresses of a session that are not all of IPv4, of the packets of a direction that come in. Those of IPv4 are mapped
/// (RFC 4291, 2.5.5.2); the session itself says which these are.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Wide {
    pub(super) comes: [Broad; 2],
}

/// What few sessions need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rare {
    /// What was changed in its stream.
    pub(super) edits: Edits,
    /// Session with the same reply key that this one hides, or [`NONE`].
    pub(super) older: SessionId,
    /// Session with the same reply key that hides this one, or [`NONE`].
    pub(super) newer: SessionId,
}

impl Default for Rare {
    fn default() -> Rare {
        Rare { edits: Edits::default(), older: NONE, newer: NONE }
    }
}

/// An arena beside the sessions.
#[derive(Debug)]
pub(super) struct Side<T> {
    arena: Vec<T>,
    /// Places in the arena that are free again.
    free: Vec<SideId>,
    limit: usize,
}

impl<T> Side<T> {
    pub(super) fn new(limit: usize) -> Side<T> {
        Side { arena: vec_on_huge_pages(limit), free: Vec::with_capacity(limit), limit }
    }

    /// Memory that one place takes, in bytes.
    pub(super) const fn bytes() -> usize {
        size_of::<T>() + size_of::<SideId>()
    }

    /// Whether there has ever been anything in it.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        !self.arena.is_empty()
    }

    /// A new place; `None` when there is no room.
    pub(super) fn add(&mut self, value: T) -> Option<SideId> {
        if let Some(id) = self.free.pop() {
            self.arena[id as usize] = value;
            return Some(id);
        }
        (self.arena.len() < self.limit).then(|| {
            self.arena.push(value);
            (self.arena.len() - 1) as SideId
        })
    }

    pub(super) fn remove(&mut self, id: SideId) {
        if id != NOWHERE {
            self.free.push(id);
        }
    }

    /// All that has a place in it.
    #[inline]
    pub(super) fn all(&self) -> &[T] {
        &self.arena
    }

    #[inline]
    pub(super) fn get(&self, id: SideId) -> Option<&T> {
        self.arena.get(id as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: SideId) -> Option<&mut T> {
        self.arena.get_mut(id as usize)
    }

    #[inline]
    pub(super) fn prefetch(&self, id: SideId) {
        prefetch_at(&self.arena, id as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_used_again() {
        let mut parts = Side::new(2);
        let (a, b) = (parts.add(1).unwrap(), parts.add(2).unwrap());
        assert_eq!(parts.add(3), None);
        parts.remove(a);
        parts.remove(NOWHERE);
        assert_eq!((parts.add(4), parts.add(5)), (Some(a), None));
        assert_eq!([a, b, NOWHERE].map(|id| parts.get(id).copied()), [Some(4), Some(2), None]);
    }
}
