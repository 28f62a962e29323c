//! What few sessions need, apart from the sessions: an arena as large as theirs, whose memory is touched as such
//! sessions come.

use crate::stream::Edits;

/// Index into the arena.
pub(crate) type RareId = u32;

/// No rare part.
pub(crate) const NONE: RareId = RareId::MAX;

/// The rare parts of one worker's sessions.
#[derive(Debug)]
pub(super) struct RareParts {
    arena: Vec<Edits>,
    /// Places in the arena that are free again.
    free: Vec<RareId>,
    limit: usize,
}

impl RareParts {
    pub(super) fn new(limit: usize) -> RareParts {
        RareParts { arena: Vec::with_capacity(limit), free: Vec::with_capacity(limit), limit }
    }

    /// Memory that `limit` parts take, in bytes.
    pub(super) fn bytes(limit: usize) -> usize {
        limit * (size_of::<Edits>() + size_of::<RareId>())
    }

    /// A new one; `None` when there is no room.
    pub(super) fn add(&mut self) -> Option<RareId> {
        if let Some(id) = self.free.pop() {
            self.arena[id as usize] = Edits::default();
            return Some(id);
        }
        (self.arena.len() < self.limit).then(|| {
            self.arena.push(Edits::default());
            (self.arena.len() - 1) as RareId
        })
    }

    pub(super) fn remove(&mut self, id: RareId) {
        if id != NONE {
            self.free.push(id);
        }
    }

    #[inline]
    pub(super) fn get(&self, id: RareId) -> Option<&Edits> {
        self.arena.get(id as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: RareId) -> Option<&mut Edits> {
        self.arena.get_mut(id as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_and_come_back_empty() {
        let mut parts = RareParts::new(2);
        let (a, b) = (parts.add().unwrap(), parts.add().unwrap());
        assert_eq!(parts.add(), None);
        parts.get_mut(a).unwrap().request.edited(1, 5);
        parts.remove(a);
        parts.remove(NONE);
        let again = parts.add().unwrap();
        assert_eq!((again, parts.get(again).copied()), (a, Some(Edits::default())));
        assert!(parts.get(b).is_some() && parts.get(NONE).is_none() && parts.add().is_none());
    }
}
