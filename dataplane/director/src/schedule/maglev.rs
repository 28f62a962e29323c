//! The Maglev table of mh: each server fills slots in an order of its own, in turn, until all are taken.
//!
//! Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", 3.4, with IPVS's weights, hash
//! keys and table size, so that both send a client to the same server.

use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use super::hashed::folded;
use crate::snapshot::Destination;

/// Slots, a prime. // IPVS: primes[] for CONFIG_IP_VS_MH_TAB_INDEX=12, the default
const SLOTS: usize = 4093;
/// Weights beyond this many bits are shifted down. // IPVS: IP_VS_MH_TAB_BITS, half the index
const WEIGHT_BITS: u32 = 6;
/// Key of the hash of clients, and of where a server begins.
const FIRST_KEY: u64 = 2_654_435_761;
/// Key of the hash of a server's stride.
const SECOND_KEY: u64 = 2_654_446_892;

/// A server's way through the slots.
struct Walk {
    index: u32,
    slot: usize,
    stride: usize,
    /// Slots that it takes at a time.
    turns: u32,
}

/// The slot of a key in a table of `slots`.
pub(super) fn slot(key: u32, slots: usize) -> usize {
    hash(key, FIRST_KEY) as usize % slots
}

/// IPVS: hsiphash of one word on 64-bit machines, which is the lower half of SipHash-1-3.
fn hash(key: u32, secret: u64) -> u32 {
    let mut hasher = SipHasher13::new_with_keys(secret, secret);
    hasher.write(&key.to_le_bytes());
    hasher.finish() as u32
}

/// Indices of destinations by slot; empty when none has ever had a weight.
///
/// A server that is quiesced keeps its slots, so that nobody else's clients move.
pub(super) fn table(destinations: &[Arc<Destination>]) -> Arc<[u32]> {
    let weights = || destinations.iter().map(|d| d.last_weight).filter(|&weight| weight > 0);
    let Some(largest) = weights().max() else { return Arc::default() };
    let divisor = weights().fold(0, super::wrr::gcd);
    let shift = (u32::BITS - (largest / divisor).leading_zeros()).saturating_sub(WEIGHT_BITS);
    let walk = |(index, destination): (u32, &Arc<Destination>)| {
        let key = folded(destination.address).wrapping_add(destination.port.into());
        (destination.last_weight > 0).then(|| Walk {
            index,
            slot: slot(key, SLOTS),
            stride: hash(key, SECOND_KEY) as usize % (SLOTS - 1) + 1,
            turns: ((destination.last_weight / divisor) >> shift).max(1),
        })
    };
    let mut walks: Vec<Walk> = (0..).zip(destinations).filter_map(walk).collect();

    let mut slots: Vec<Option<u32>> = vec![None; SLOTS];
    let mut left = SLOTS;
    'full: loop {
        for walk in &mut walks {
            for _ in 0..walk.turns {
                while slots[walk.slot].is_some() {
                    walk.slot = (walk.slot + walk.stride) % SLOTS;
                }
                slots[walk.slot] = Some(walk.index);
                left -= 1;
                if left == 0 {
                    break 'full;
                }
            }
        }
    }
    slots.into_iter().flatten().collect()
}

/// Whether both lists have the same table.
pub(super) fn same_table(old: &[Arc<Destination>], new: &[Arc<Destination>]) -> bool {
    let what = |d: &Destination| (d.address, d.port, d.last_weight);
    old.len() == new.len() && old.iter().zip(new).all(|(a, b)| what(a) == what(b))
}
