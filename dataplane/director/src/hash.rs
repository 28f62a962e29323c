//! The one mixing step that the engine's hashes are made of.

/// Multiplies to 128 bits and folds the halves: every input bit reaches every output bit.
#[inline]
pub(crate) fn folded_multiply(a: u64, b: u64) -> u64 {
    let wide = u128::from(a) * u128::from(b);
    (wide as u64) ^ ((wide >> 64) as u64)
}
