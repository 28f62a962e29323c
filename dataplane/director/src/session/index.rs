//! Finds sessions by key: buckets of one cache line, eight entries each, open addressing over buckets.
//!
//! An entry is 32 bits that the owner gives meaning; a 16-bit tag saves most looks at the session itself. A
//! bucket counts the entries that found it full and went on, so that a search ends at the first bucket that
//! nobody passed. The table does not grow: it is made for the number of entries it will hold.

use std::net::IpAddr;

use super::Key;
use crate::hash::folded_multiply;

/// Entries of a bucket.
const WIDTH: usize = 8;

#[derive(Clone, Debug)]
#[repr(align(64))]
struct Bucket {
    /// 0 = free; tags are never 0.
    tags: [u16; WIDTH],
    entries: [u32; WIDTH],
    /// How many entries passed this bucket because it was full.
    passed: u32,
}

#[derive(Debug)]
pub(super) struct Index {
    buckets: Box<[Bucket]>,
    mask: usize,
    seed: [u64; 2],
}

impl Index {
    /// For at most `entries` entries: a load of at most two thirds.
    pub(super) fn new(entries: usize, seed: u64) -> Index {
        let count = Index::buckets(entries);
        let empty = Bucket { tags: [0; WIDTH], entries: [0; WIDTH], passed: 0 };
        // Odd constants from the fractional digits of π; the seed keeps collisions from being chosen.
        let seed = [seed ^ 0x243f_6a88_85a3_08d3, seed.rotate_left(32) ^ 0x1319_8a2e_0370_7345];
        Index { buckets: vec![empty; count].into_boxed_slice(), mask: count - 1, seed }
    }

    fn buckets(entries: usize) -> usize {
        (entries * 3 / 2).div_ceil(WIDTH).next_power_of_two()
    }

    /// Memory for `entries` entries, in bytes.
    pub(super) fn bytes(entries: usize) -> usize {
        Index::buckets(entries) * size_of::<Bucket>()
    }

    #[inline]
    pub(super) fn hash(&self, key: Key) -> u64 {
        let addresses = match (key.src, key.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => (u64::from(src.to_bits()) << 32) | u64::from(dst.to_bits()),
            (src, dst) => self.fold(src) ^ self.fold(dst).rotate_left(17),
        };
        let ports = (u64::from(key.sport) << 32) | (u64::from(key.dport) << 16) | u64::from(key.protocol);
        folded_multiply(
            folded_multiply(addresses ^ self.seed[0], 0x9e37_79b9_7f4a_7c15) ^ ports,
            self.seed[1] | 1,
        )
    }

    fn fold(&self, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(address) => address.to_bits().into(),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                folded_multiply((bits >> 64) as u64 ^ self.seed[1], bits as u64 ^ self.seed[0])
            }
        }
    }

    #[inline]
    fn tag(hash: u64) -> u16 {
        ((hash >> 48) as u16).max(1)
    }

    /// The bucket of a search's n-th step: neighbours, which the prefetcher knows.
    #[inline]
    fn bucket(&self, hash: u64, step: usize) -> usize {
        (hash as usize).wrapping_add(step) & self.mask
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = Index::tag(hash);
        for step in 0..=self.mask {
            let bucket = &self.buckets[self.bucket(hash, step)];
            for slot in 0..WIDTH {
                if bucket.tags[slot] == tag && is_it(bucket.entries[slot]) {
                    return Some(bucket.entries[slot]);
                }
            }
            if bucket.passed == 0 {
                return None;
            }
        }
        None
    }

    pub(super) fn insert(&mut self, hash: u64, entry: u32) {
        for step in 0..=self.mask {
            let at = self.bucket(hash, step);
            let bucket = &mut self.buckets[at];
            if let Some(slot) = bucket.tags.iter().position(|&tag| tag == 0) {
                bucket.tags[slot] = Index::tag(hash);
                bucket.entries[slot] = entry;
                return;
            }
            bucket.passed += 1;
        }
        unreachable!("the index has room for every entry of a full session table");
    }

    pub(super) fn remove(&mut self, hash: u64, entry: u32) {
        let Some((steps, slot)) = self.locate(hash, entry) else { return };
        for step in 0..steps {
            let at = self.bucket(hash, step);
            self.buckets[at].passed -= 1;
        }
        let at = self.bucket(hash, steps);
        self.buckets[at].tags[slot] = 0;
    }

    pub(super) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        if let Some((steps, slot)) = self.locate(hash, old) {
            let at = self.bucket(hash, steps);
            self.buckets[at].entries[slot] = new;
        }
    }

    fn locate(&self, hash: u64, entry: u32) -> Option<(usize, usize)> {
        let tag = Index::tag(hash);
        for step in 0..=self.mask {
            let bucket = &self.buckets[self.bucket(hash, step)];
            let found = (0..WIDTH).find(|&i| bucket.tags[i] == tag && bucket.entries[i] == entry);
            if let Some(slot) = found {
                return Some((step, slot));
            }
            if bucket.passed == 0 {
                return None;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_pass_full_buckets_are_found_and_leave_no_trace() {
        let mut index = Index::new(64, 0);
        // All in one bucket: five overflow twice.
        let hash = 0x0001_0000_0000_0003u64;
        for entry in 0..21 {
            index.insert(hash, entry);
        }
        for entry in 0..21 {
            assert_eq!(index.find(hash, |e| e == entry), Some(entry));
        }
        for entry in (0..21).rev() {
            index.remove(hash, entry);
            assert_eq!(index.find(hash, |e| e == entry), None);
        }
        assert!(index.buckets.iter().all(|bucket| bucket.passed == 0 && bucket.tags == [0; WIDTH]));
    }

    #[test]
    fn a_full_load_fits() {
        let mut index = Index::new(1000, 7);
        let hashes: Vec<u64> = (0..1000u64).map(|i| folded_multiply(i + 1, 0x9e37_79b9_7f4a_7c15)).collect();
        for (entry, &hash) in hashes.iter().enumerate() {
            index.insert(hash, entry as u32);
        }
        for (entry, &hash) in hashes.iter().enumerate() {
            assert_eq!(index.find(hash, |e| e == entry as u32), Some(entry as u32));
        }
    }
}
