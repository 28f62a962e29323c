//! Small dense numbers that are given out, and given out again once nobody can hold them.

use std::collections::VecDeque;

/// A source of numbers 0, 1, 2…
#[derive(Debug, Default)]
pub(crate) struct Ids {
    next: u32,
    /// Given back in a generation that all workers have.
    free: Vec<u32>,
    /// Given back in the generation beside it; in order of generations.
    resting: VecDeque<(u64, u32)>,
}

impl Ids {
    /// A number that is not in use.
    pub(crate) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Gives `id` back: the snapshots of `generation` and later do not have it.
    pub(crate) fn give_back(&mut self, id: u32, generation: u64) {
        self.resting.push_back((generation, id));
    }

    /// No worker runs a snapshot older than that of `generation`.
    pub(crate) fn acknowledged(&mut self, generation: u64) {
        while let Some((since, id)) = self.resting.front().copied()
            && since <= generation
        {
            self.resting.pop_front();
            self.free.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ids;

    #[test]
    fn a_number_rests_until_its_generation_is_acknowledged() {
        let mut ids = Ids::default();
        assert_eq!([ids.take(), ids.take(), ids.take()], [0, 1, 2]);
        ids.give_back(1, 7);
        ids.give_back(0, 8);
        ids.acknowledged(6);
        assert_eq!(ids.take(), 3);
        ids.acknowledged(7);
        assert_eq!([ids.take(), ids.take()], [1, 4]);
        ids.acknowledged(9);
        assert_eq!(ids.take(), 0);
        assert_eq!(ids.take(), 5);
    }
}
