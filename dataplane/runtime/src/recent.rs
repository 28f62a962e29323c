//! What was dropped in the last minute: a sample of the counts every second.

use std::collections::VecDeque;

use fulcrum_director::Reason;

/// Seconds that are remembered.
const SECONDS: usize = 60;

/// Counts by reason, all workers together.
pub(crate) type Counts = [u64; Reason::COUNT];

/// The samples of the last minute, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<Counts>);

impl Recent {
    /// Takes a sample; to be called every second.
    pub(crate) fn note(&mut self, now: Counts) {
        if self.0.len() == SECONDS {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// How much there is more than a minute ago; before the first sample, than nothing.
    pub(crate) fn since(&self, now: Counts) -> Counts {
        let mut counts = now;
        if let Some(before) = self.0.front().filter(|_| self.0.len() == SECONDS) {
            for (count, before) in counts.iter_mut().zip(before) {
                *count = count.saturating_sub(*before);
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_remembered() {
        let mut recent = Recent::default();
        let counts = |first| {
            let mut counts = [0; Reason::COUNT];
            counts[0] = first;
            counts
        };
        assert_eq!(recent.since(counts(5))[0], 5);
        for second in 1..=200 {
            recent.note(counts(second));
            assert_eq!(recent.since(counts(second + 1))[0], if second < 60 { second + 1 } else { 60 });
        }
    }
}
