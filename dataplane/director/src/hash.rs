//! The one mixing step that the engine's hashes and numbers by chance are made of.

/// Multiplies to 128 bits and folds the halves: every input bit reaches every output bit.
#[inline]
pub(crate) fn folded_multiply(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// A worker's numbers by chance: reproducible from the seed, different on each worker.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64, worker: u16) -> Chance {
        Chance(folded_multiply(seed ^ STEP, u64::from(worker) + STEP))
    }

    /// The next number.
    pub(crate) fn draw(&mut self) -> u64 {
        // wyrand: a counter, mixed.
        self.0 = self.0.wrapping_add(STEP);
        folded_multiply(self.0, self.0 ^ 0xe703_7ed1_a0b4_28db)
    }
}

/// Odd, and without pattern: the counter meets every number.
const STEP: u64 = 0xa076_1d64_78bd_642f;
