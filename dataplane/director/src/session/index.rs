//! Finds sessions by key: buckets of one cache line, eleven entries each, open addressing over buckets.
//!
//! An entry is a number that the owner gives meaning. Eight bits of its hash beside it, its tag, and as many as its
//! number leaves free of 32 save nearly all looks at other sessions. What finds its bucket full goes on to the other
//! one of its pair, which the same look at memory brings along on many machines, then to the pairs behind; a bucket
//! counts those that passed it, so that a search ends at the first bucket that nobody passed. It counts them apart by
//! four bits of their hash: in a full table whose entries come and go, many buckets have been passed by somebody,
//! and a search for what is not there would take long to end. The table does not grow: it is made for the number of
//! entries it will hold, at a load of [`LOAD`].

use std::net::IpAddr;

use fulcrum_machine::{bytes_equal, prefetch_unseen, vec_on_huge_pages};

use super::narrow::Narrow;
use super::{Broad, Key};
use crate::hash::folded_multiply;

/// Entries of a bucket.
const WIDTH: usize = 11;

/// How full the table is, in percent, when all entries are there. Then of a hundred entries some four are in the
/// other bucket of their pair, and four further on; in a full table whose entries come and go a search for what is not
/// there meets three buckets.
const LOAD: usize = 85;

/// Where a bucket's counts begin, and end: behind the tags, which are compared sixteen at a time.
const COUNTS: usize = 12;
const HEAD: usize = COUNTS + 8;

/// Words of bits that entries leave which come.
const COME: usize = 16;

#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Bucket {
    /// Tags, 0 = free; behind them, in four bits each, how many entries of each of sixteen kinds passed this bucket
    /// because it was full, by their [`class`]; what has reached 15 stays.
    head: [u8; HEAD],
    /// Numbers, with more of their hashes above them.
    entries: [u32; WIDTH],
}

impl Bucket {
    const EMPTY: Bucket = Bucket { head: [0; HEAD], entries: [0; WIDTH] };

    /// The slots with a tag.
    #[inline(always)]
    fn matches(&self, tag: u8) -> Matches {
        Matches(self.equal(tag) & ((1 << WIDTH) - 1))
    }

    /// A bit for each slot with a tag; above them there may be others.
    #[inline(always)]
    fn equal(&self, tag: u8) -> u32 {
        let mut first = [0; 16];
        first.copy_from_slice(&self.head[..16]);
        bytes_equal(&first, tag)
    }

    /// Where an entry is, if it is in this bucket.
    #[inline(always)]
    fn slot_of(&self, tag: u8, entry: u32) -> Option<usize> {
        self.matches(tag).find(|&slot| self.entries[slot] == entry)
    }

    /// Takes an entry in, if there is room.
    #[inline(always)]
    fn take(&mut self, tag: u8, entry: u32) -> bool {
        let Some(slot) = self.matches(0).next() else { return false };
        self.head[slot] = tag;
        self.entries[slot] = entry;
        true
    }

    /// Whether any entry of a hash's class passed it.
    #[inline(always)]
    fn was_passed(&self, hash: u64) -> bool {
        self.counts() >> class(hash) & 15 != 0
    }

    /// Counts one that passes, or that does not any more.
    fn count(&mut self, hash: u64, more: bool) {
        let (counts, class) = (self.counts(), class(hash));
        let counts = match counts >> class & 15 {
            15 => return,
            _ if more => counts + (1 << class),
            _ => counts - (1 << class),
        };
        self.head[COUNTS..].copy_from_slice(&counts.to_le_bytes());
    }

    #[inline(always)]
    fn counts(&self) -> u64 {
        let mut counts = [0; 8];
        counts.copy_from_slice(&self.head[COUNTS..]);
        u64::from_le_bytes(counts)
    }
}

/// Said of what is not in the bucket where its search begins, and may be in one behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elsewhere;

/// Slots of a bucket, the first first.
struct Matches(u32);

impl Iterator for Matches {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let slot = self.0.trailing_zeros() as usize;
        self.0 &= self.0.wrapping_sub(1);
        (slot < WIDTH).then_some(slot)
    }
}

#[derive(Debug)]
pub(super) struct Index {
    buckets: Vec<Bucket>,
    seed: [u64; 3],
    /// The bits of an entry that its number does not need, and those that it does.
    spare: u32,
    number: u32,
    epoch: u32,
    /// Bits by hash of the entries that have come since [`Index::begin`].
    come: [u64; COME],
}

impl Index {
    /// For at most `entries` entries, each a number below that.
    pub(super) fn new(entries: usize, seed: u64) -> Index {
        let count = Index::buckets(entries);
        // Constants from the fractional digits of π; the seed keeps collisions from being chosen. Factors are odd.
        let seed = [
            seed ^ 0x243f_6a88_85a3_08d3,
            seed.rotate_left(32) ^ 0x1319_8a2e_0370_7345 | 1,
            seed.rotate_left(16) ^ 0xa409_3822_299f_31d1 | 1,
        ];
        let mut buckets = vec_on_huge_pages(count);
        buckets.resize(count, Bucket::EMPTY);
        let largest = entries.saturating_sub(1).min(u32::MAX as usize) as u32;
        let spare = u32::MAX.checked_shl(u32::BITS - largest.leading_zeros()).unwrap_or(0);
        Index { buckets, seed, spare, number: !spare, epoch: 0, come: [0; COME] }
    }

    /// Whole pairs.
    fn buckets(entries: usize) -> usize {
        (entries * 100).div_ceil(LOAD * WIDTH).next_multiple_of(2)
    }

    /// Memory for `entries` entries, in bytes.
    pub(super) fn bytes(entries: usize) -> usize {
        Index::buckets(entries) * size_of::<Bucket>()
    }

    #[inline]
    pub(super) fn hash(&self, key: Key) -> u64 {
        match key.narrow() {
            Some(ends) => self.hash_v4(key.protocol, ends),
            None => {
                let ports = Narrow::new((0, key.sport), (0, key.dport)).ports();
                self.hash_v6(key.protocol, &Broad::new(bits(key.src), bits(key.dst)), ports)
            }
        }
    }

    #[inline(always)]
    pub(super) fn hash_v4(&self, protocol: u16, ends: Narrow) -> u64 {
        let (addresses, ports) = ends.parts();
        self.mix(addresses, protocol, ports)
    }

    #[inline(always)]
    pub(super) fn hash_v6(&self, protocol: u16, addresses: &Broad, ports: [u8; 4]) -> u64 {
        let [src, dst] = addresses.parts().map(|(a, b)| folded_multiply(a ^ self.seed[1], b ^ self.seed[0]));
        let rest = u64::from(u32::from_ne_bytes(ports)) << 16 | u64::from(protocol);
        folded_multiply(src ^ dst.rotate_left(17) ^ rest, self.seed[1])
    }

    #[inline(always)]
    fn mix(&self, addresses: u64, protocol: u16, ports: u32) -> u64 {
        let rest = u64::from(ports) << 16 | u64::from(protocol);
        folded_multiply(folded_multiply(addresses ^ self.seed[0], self.seed[2]) ^ rest, self.seed[1])
    }

    #[inline(always)]
    fn tag(hash: u64) -> u8 {
        hash as u8 | 1
    }

    /// What fills the bits that an entry's number leaves: the highest of the hash's low half, far from the tag's.
    #[inline(always)]
    fn filling(&self, hash: u64) -> u32 {
        hash as u32 & self.spare
    }

    /// The bucket where a search begins: the hash brought into range, by its highest bits.
    #[inline(always)]
    pub(super) fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize
    }

    /// The bucket after another in a search that began at `home`: the other one of its pair, then pair by pair.
    #[inline(always)]
    fn behind(&self, home: usize, at: usize) -> usize {
        if at == home {
            return at ^ 1;
        }
        let next = if at == home ^ 1 { (home | 1) + 1 } else { at + 1 };
        if next == self.buckets.len() { 0 } else { next }
    }

    /// Asks for the bucket where a search begins.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch_unseen(&self.buckets, self.home(hash));
    }

    /// A number that changes with every change.
    #[inline(always)]
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// From here on [`Index::may_have_come`] tells what comes.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.come = [0; COME];
    }

    /// Whether an entry with this hash may have come since [`Index::begin`]; false is sure.
    #[inline(always)]
    pub(super) fn may_have_come(&self, hash: u64) -> bool {
        let (word, bit) = trace(hash);
        self.come[word] & bit != 0
    }

    /// Whether nothing is left of any entry.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.head == [0; HEAD])
    }

    /// The first entry with a hash's tag, where a search for it would come by.
    #[inline(always)]
    pub(super) fn first(&self, hash: u64) -> Option<u32> {
        let home = self.home(hash);
        match self.first_at(home, hash) {
            Ok(found) => found,
            Err(Elsewhere) => self.first_behind(home, hash),
        }
    }

    /// Whether there is none.
    #[inline(always)]
    pub(super) fn is_absent(&self, hash: u64) -> bool {
        let bucket = &self.buckets[self.home(hash)];
        let tagged = bucket.equal(Index::tag(hash)).trailing_zeros() as usize;
        // Most that are not there have no tag like theirs beside them.
        tagged >= WIDTH && !bucket.was_passed(hash) || self.first(hash).is_none()
    }

    /// The first entry, in the bucket where the search begins, if it is the first with its tag: most are that are there.
    #[inline(always)]
    pub(super) fn likely_at(&self, home: usize, hash: u64) -> Option<u32> {
        let bucket = self.buckets.get(home)?;
        let slot = u64::from(bucket.equal(Index::tag(hash))).trailing_zeros() as usize;
        let entry = bucket.entries.get(slot)?;
        ((entry ^ hash as u32) & self.spare == 0).then_some(entry & self.number)
    }

    /// The same of any; none in a bucket that there is not. A search that has to go on finds the memory asked for.
    #[inline]
    pub(super) fn first_at(&self, home: usize, hash: u64) -> Result<Option<u32>, Elsewhere> {
        let Some(bucket) = self.buckets.get(home) else { return Ok(None) };
        match self.first_in(bucket, hash) {
            None if bucket.was_passed(hash) => {
                prefetch_unseen(&self.buckets, self.behind(home, home));
                Err(Elsewhere)
            }
            found => Ok(found),
        }
    }

    #[inline(never)]
    fn first_behind(&self, home: usize, hash: u64) -> Option<u32> {
        let mut at = home;
        for _ in 1..self.buckets.len() {
            at = self.behind(home, at);
            let bucket = &self.buckets[at];
            let found = self.first_in(bucket, hash);
            if found.is_some() || !bucket.was_passed(hash) {
                return found;
            }
        }
        None
    }

    /// The first entry of a bucket with a hash's tag.
    #[inline(always)]
    fn first_in(&self, bucket: &Bucket, hash: u64) -> Option<u32> {
        let filling = self.filling(hash);
        bucket
            .matches(Index::tag(hash))
            .map(|slot| bucket.entries[slot] ^ filling)
            .find(|entry| entry & self.spare == 0)
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let (tag, filling, home) = (Index::tag(hash), self.filling(hash), self.home(hash));
        let mut at = home;
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            for slot in bucket.matches(tag) {
                let entry = bucket.entries[slot] ^ filling;
                if entry & self.spare == 0 && is_it(entry) {
                    return Some(entry);
                }
            }
            if !bucket.was_passed(hash) {
                return None;
            }
            at = self.behind(home, at);
        }
        None
    }

    #[inline]
    pub(super) fn insert(&mut self, hash: u64, entry: u32) {
        debug_assert!(entry & self.spare == 0, "{entry} is larger than was said");
        self.epoch = self.epoch.wrapping_add(1);
        let (word, bit) = trace(hash);
        self.come[word] |= bit;
        let (home, entry) = (self.home(hash), entry | self.filling(hash));
        if !self.buckets[home].take(Index::tag(hash), entry) {
            self.insert_behind(home, hash, entry);
        }
    }

    #[inline(never)]
    fn insert_behind(&mut self, home: usize, hash: u64, entry: u32) {
        let mut at = home;
        for _ in 1..self.buckets.len() {
            self.buckets[at].count(hash, true);
            at = self.behind(home, at);
            if self.buckets[at].take(Index::tag(hash), entry) {
                return;
            }
        }
        unreachable!("the index has room for every entry of a full session table");
    }

    #[inline]
    pub(super) fn remove(&mut self, hash: u64, entry: u32) {
        let (home, entry) = (self.home(hash), entry | self.filling(hash));
        let bucket = &mut self.buckets[home];
        match bucket.slot_of(Index::tag(hash), entry) {
            Some(slot) => {
                bucket.head[slot] = 0;
                self.epoch = self.epoch.wrapping_add(1);
            }
            None => self.remove_behind(home, hash, entry),
        }
    }

    #[inline(never)]
    fn remove_behind(&mut self, home: usize, hash: u64, entry: u32) {
        let Some((at, slot)) = self.locate_behind(home, hash, entry) else { return };
        self.epoch = self.epoch.wrapping_add(1);
        self.buckets[at].head[slot] = 0;
        let mut passed = home;
        while passed != at {
            self.buckets[passed].count(hash, false);
            passed = self.behind(home, passed);
        }
    }

    pub(super) fn replace(&mut self, hash: u64, old: u32, new: u32) {
        let filling = self.filling(hash);
        if let Some((at, slot)) = self.locate(hash, old | filling) {
            self.epoch = self.epoch.wrapping_add(1);
            self.buckets[at].entries[slot] = new | filling;
        }
    }

    /// Where an entry is, given as it is kept.
    fn locate(&self, hash: u64, entry: u32) -> Option<(usize, usize)> {
        let home = self.home(hash);
        match self.buckets[home].slot_of(Index::tag(hash), entry) {
            Some(slot) => Some((home, slot)),
            None => self.locate_behind(home, hash, entry),
        }
    }

    fn locate_behind(&self, home: usize, hash: u64, entry: u32) -> Option<(usize, usize)> {
        let mut at = home;
        for _ in 1..self.buckets.len() {
            if !self.buckets[at].was_passed(hash) {
                return None;
            }
            at = self.behind(home, at);
            if let Some(slot) = self.buckets[at].slot_of(Index::tag(hash), entry) {
                return Some((at, slot));
            }
        }
        None
    }
}

/// The kind of an entry, four times it: bits of its hash that neither the tag nor its place is of.
#[inline(always)]
fn class(hash: u64) -> u32 {
    (hash >> 30) as u32 & 60
}

/// The bit that an entry leaves when it comes.
#[inline(always)]
fn trace(hash: u64) -> (usize, u64) {
    ((hash >> 38) as usize % COME, 1 << ((hash >> 32) % 64))
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(count: u64) -> Vec<u64> {
        // Twice: multiples of one number would be spread more evenly than keys are.
        let once = |i: u64| folded_multiply(i + 1, 0x9e37_79b9_7f4a_7c15);
        (0..count).map(|i| folded_multiply(once(i) ^ 0x2437_54a8_85a3_08d3, 0xd6e8_feb8_6659_fd93)).collect()
    }

    #[test]
    fn entries_that_pass_full_buckets_are_found_and_leave_no_trace() {
        let mut index = Index::new(64, 0);
        // All in one bucket, the last: those that do not fit go on in the one before it, then at the first.
        let hash = 0xffff_ffff_0001_0000u64;
        for entry in 0..25 {
            index.insert(hash, entry);
        }
        for entry in 0..25 {
            assert_eq!(index.find(hash, |e| e == entry), Some(entry));
        }
        for entry in (0..25).rev() {
            index.remove(hash, entry);
            assert_eq!(index.find(hash, |e| e == entry), None);
        }
        assert!(index.is_empty());
    }

    #[test]
    fn every_slot_can_be_taken() {
        let mut index = Index::new(1000, 7);
        let hashes = hashes((index.buckets.len() * WIDTH) as u64);
        let number = |entry: usize| entry as u32 % 1000;
        for (entry, &hash) in hashes.iter().enumerate() {
            index.insert(hash, number(entry));
        }
        for (entry, &hash) in hashes.iter().enumerate() {
            assert_eq!(index.find(hash, |e| e == number(entry)), Some(number(entry)));
        }
    }

    #[test]
    fn a_search_in_steps_finds_what_one_at_once_finds() {
        let mut index = Index::new(20_000, 7);
        let hashes = hashes(40_000);
        let (present, absent) = hashes.split_at(20_000);
        for (entry, &hash) in present.iter().enumerate() {
            index.insert(hash, entry as u32);
        }
        let mut elsewhere = 0;
        for (number, &hash) in hashes.iter().enumerate() {
            match index.first_at(index.home(hash), hash) {
                Ok(found) => assert_eq!(found, index.first(hash)),
                Err(Elsewhere) => elsewhere += usize::from(number < present.len()),
            }
        }
        assert!((present.len() / 20..present.len() / 10).contains(&elsewhere), "{elsewhere}");
        assert!(
            absent.iter().all(|&hash| index.first_at(index.buckets.len(), hash).is_ok_and(|it| it.is_none()))
        );
    }

    #[test]
    fn at_its_load_searches_are_short() {
        let mut index = Index::new(200_000, 7);
        let hashes = hashes(200_000);
        for (entry, &hash) in hashes.iter().enumerate() {
            index.insert(hash, entry as u32);
        }
        let steps = |(entry, &hash): (usize, &u64)| {
            let home = index.home(hash);
            let (at, _) = index.locate(hash, entry as u32 | index.filling(hash)).unwrap();
            std::iter::successors(Some(home), |&from| Some(index.behind(home, from)))
                .position(|from| from == at)
                .unwrap()
        };
        let steps: Vec<_> = hashes.iter().enumerate().map(steps).collect();
        let share =
            |far: usize| steps.iter().filter(|&&step| step >= far).count() as f64 / steps.len() as f64;
        assert!(share(1) < 0.09 && share(2) < 0.045, "{} {}", share(1), share(2));
        assert!(steps.iter().all(|&step| step < 48), "{:?}", steps.iter().max());
    }

    #[test]
    fn searches_stay_short_in_a_full_table_whose_entries_come_and_go() {
        const ENTRIES: usize = 20_000;
        let mut index = Index::new(ENTRIES, 7);
        let all = hashes(21 * ENTRIES as u64);
        let (hashes, absent) = all.split_at(20 * ENTRIES);
        for (number, &hash) in hashes.iter().enumerate() {
            if let Some(gone) = number.checked_sub(ENTRIES) {
                index.remove(hashes[gone], (gone % ENTRIES) as u32);
            }
            index.insert(hash, (number % ENTRIES) as u32);
        }
        // How many buckets a search for what is not there meets.
        let searched = |hash: u64| {
            let home = index.home(hash);
            let passed = |at: &usize| index.buckets[*at].was_passed(hash);
            std::iter::successors(Some(home), |&at| Some(index.behind(home, at))).take_while(passed).count()
                + 1
        };
        let total: usize = absent.iter().map(|&hash| searched(hash)).sum();
        assert!(2 * total < 7 * absent.len(), "{total} of {}", absent.len());
    }

    #[test]
    fn a_count_that_is_full_stays_and_loses_nobody() {
        let mut index = Index::new(600, 0);
        for entry in 0..400 {
            index.insert(0, entry);
        }
        for entry in 0..399 {
            index.remove(0, entry);
            assert_eq!(index.find(0, |e| e == 399), Some(399));
        }
    }

    #[test]
    fn tags_are_compared_alone() {
        let head = [0x80, 0x7f, 0, 1, 0x81, 0xff, 0, 0x80, 1, 2, 3, 0x80, 0x80, 0, 1, 0xff, 1, 1, 1, 1];
        let bucket = Bucket { head, ..Bucket::EMPTY };
        for tag in [0, 1, 2, 0x7f, 0x80, 0x81, 0xff, 0x7e] {
            let expected: Vec<_> = (0..WIDTH).filter(|&slot| head[slot] == tag).collect();
            assert_eq!(bucket.matches(tag).collect::<Vec<_>>(), expected, "{tag:#x}");
        }
    }

    #[test]
    fn an_entry_with_the_same_tag_and_another_hash_is_seldom_taken_for_it() {
        let mut index = Index::new(100_000, 7);
        let all = hashes(500_000);
        let (here, absent) = all.split_at(100_000);
        here.iter().enumerate().for_each(|(entry, &hash)| index.insert(hash, entry as u32));
        let mistaken = absent.iter().filter(|&&hash| index.first(hash).is_some()).count();
        assert!(mistaken < absent.len() / 1000, "{mistaken}");
        let others =
            here.iter().enumerate().filter(|&(entry, &hash)| index.first(hash) != Some(entry as u32));
        assert!(others.count() < here.len() / 1000);
    }

    #[test]
    fn what_has_come_shows_until_the_next_beginning() {
        let mut index = Index::new(1000, 7);
        let all = hashes(400);
        let (here, others) = all.split_at(64);
        here.iter().for_each(|&hash| index.insert(hash, 1));
        assert!(here.iter().all(|&hash| index.may_have_come(hash)));
        let mistaken = others.iter().filter(|&&hash| index.may_have_come(hash)).count();
        assert!(mistaken < others.len() / 8, "{mistaken}");
        index.begin();
        assert!(!all.iter().any(|&hash| index.may_have_come(hash)));
    }

    #[test]
    fn every_change_shows_in_the_epoch() {
        let mut index = Index::new(10, 0);
        let mut epochs = vec![index.epoch()];
        index.insert(5, 1);
        epochs.push(index.epoch());
        index.replace(5, 1, 2);
        epochs.push(index.epoch());
        index.remove(5, 2);
        epochs.push(index.epoch());
        assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    }
}
