//! TCP options (RFC 9293, 3.1): walked over, and changed in place.
//!
//! Everything takes a segment from its first byte on and trusts nothing in it: a data offset or a length that
//! lies ends the walk. Changes keep the header's length and give what they mean to its checksum.

use core::iter::FusedIterator;

use crate::checksum::Delta;
use crate::field::{u16_at, u32_at};
use crate::tcp::HEADER;

/// End of the options.
pub const END: u8 = 0;
/// Padding.
pub const NOP: u8 = 1;
/// Maximum segment size (RFC 9293).
pub const MSS: u8 = 2;
/// Window scale (RFC 7323).
pub const WINDOW_SCALE: u8 = 3;
/// Selective acknowledgment is understood (RFC 2018).
pub const SACK_PERMITTED: u8 = 4;
/// Selective acknowledgment (RFC 2018).
pub const SACK: u8 = 5;
/// Time stamps (RFC 7323).
pub const TIMESTAMPS: u8 = 8;
/// Fast open cookie (RFC 7413).
pub const FAST_OPEN: u8 = 34;
/// Experiments (RFC 4727); some toa modules read a client's IPv6 address here.
pub const EXPERIMENT_1: u8 = 253;
/// Experiments (RFC 4727); toa modules read a client's address here.
pub const EXPERIMENT_2: u8 = 254;

/// The most bytes that options can take.
pub const ROOM: usize = 60 - HEADER;

/// Where an option stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its kind.
    pub kind: u8,
    /// Offset of the kind byte from the segment's first.
    pub at: usize,
    /// Bytes, kind and length included.
    pub len: usize,
}

/// The options of a segment, [`NOP`]s left out, up to the first that is malformed.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    segment: &'a [u8],
    at: usize,
}

/// Walks over the options of a segment.
pub fn of(segment: &[u8]) -> Options<'_> {
    Options { segment: &segment[..header_len(segment)], at: HEADER }
}

/// The header's length, where the data offset tells one that the segment has; 0 otherwise.
fn header_len(segment: &[u8]) -> usize {
    let told = segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    if (HEADER..=segment.len()).contains(&told) { told } else { 0 }
}

impl Iterator for Options<'_> {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        loop {
            let kind = *self.segment.get(self.at)?;
            match kind {
                END => self.at = self.segment.len(),
                NOP => self.at += 1,
                _ => {
                    let len = usize::from(*self.segment.get(self.at + 1)?);
                    if len < 2 || self.at + len > self.segment.len() {
                        self.at = self.segment.len();
                        return None;
                    }
                    let place = Place { kind, at: self.at, len };
                    self.at += len;
                    return Some(place);
                }
            }
        }
    }
}

impl FusedIterator for Options<'_> {}

/// The maximum segment size that a SYN announces.
pub fn mss(segment: &[u8]) -> Option<u16> {
    let place = of(segment).find(|place| place.kind == MSS && place.len == 4)?;
    Some(u16_at(segment, place.at + 2))
}

/// Lowers an announced maximum segment size to `most`; a smaller one, and a SYN without one, stays.
pub fn lower_mss(segment: &mut [u8], most: u16) -> Delta {
    let mut delta = Delta::default();
    let mut from = HEADER;
    while let Some(place) = next(segment, from) {
        from = place.at + place.len;
        if place.kind == MSS && place.len == 4 && u16_at(segment, place.at + 2) > most {
            delta = delta.and(put(segment, place.at + 2, &most.to_be_bytes()));
        }
    }
    delta
}

/// Overwrites the options of a kind with [`NOP`]s; tells how many there were.
pub fn blank(segment: &mut [u8], kind: u8) -> (usize, Delta) {
    let (mut count, mut delta) = (0, Delta::default());
    let mut from = HEADER;
    while let Some(place) = next(segment, from) {
        from = place.at + place.len;
        if place.kind == kind {
            delta = delta.and(put(segment, place.at, &[NOP; ROOM][..place.len.min(ROOM)]));
            count += 1;
        }
    }
    (count, delta)
}

/// Gives every edge of selective acknowledgments another sequence number.
pub fn shift_sacks(segment: &mut [u8], number: impl Fn(u32) -> u32) -> Delta {
    let mut delta = Delta::default();
    let mut from = HEADER;
    while let Some(place) = next(segment, from) {
        from = place.at + place.len;
        if place.kind != SACK {
            continue;
        }
        // An edge that is not there whole (a length that fits no number of edges) stays.
        for at in (place.at + 2..).step_by(4).take((place.len - 2) / 4) {
            let edge = number(u32_at(segment, at));
            delta = delta.and(put(segment, at, &edge.to_be_bytes()));
        }
    }
    delta
}

fn next(segment: &[u8], from: usize) -> Option<Place> {
    Options { segment: &segment[..header_len(segment)], at: from }.next()
}

fn put(segment: &mut [u8], at: usize, new: &[u8]) -> Delta {
    let old = &mut segment[at..at + new.len()];
    let delta = Delta::default().bytes(at, old, new);
    old.copy_from_slice(new);
    delta
}

/// Options for a header that is short of room: `first`, then those of a segment whose kind is to be kept, as they
/// stand but without padding between them; padded to a multiple of four. `None` when that is more than [`ROOM`].
pub fn gather(segment: &[u8], first: &[u8], keep: impl Fn(u8) -> bool) -> Option<([u8; ROOM], usize)> {
    let (mut options, mut len) = ([END; ROOM], 0);
    let kept = of(segment).filter(|place| keep(place.kind)).map(|place| &segment[place.at..][..place.len]);
    for option in core::iter::once(first).chain(kept) {
        options.get_mut(len..len + option.len())?.copy_from_slice(option);
        len += option.len();
    }
    Some((options, len.next_multiple_of(4)))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::checksum::checksum;

    /// A segment with these options and "data" behind them.
    fn segment(options: &[u8]) -> Vec<u8> {
        assert!(options.len().is_multiple_of(4));
        let mut bytes = Vec::from([0x17; HEADER]);
        bytes[12] = (((HEADER + options.len()) / 4) << 4) as u8;
        bytes.extend_from_slice(options);
        bytes.extend_from_slice(b"data");
        bytes
    }

    fn kinds(options: &[u8]) -> Vec<u8> {
        of(&segment(options)).map(|place| place.kind).collect()
    }

    #[test]
    fn walks_until_the_end_or_what_is_malformed() {
        assert_eq!(kinds(&[2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 0, 0]), [2, 3, 4]);
        assert_eq!(kinds(&[4, 2, 0, 4]), [4], "END ends");
        assert_eq!(kinds(&[4, 2, 8, 10]), [4], "longer than the header");
        assert_eq!(kinds(&[2, 1, 4, 2]), [], "shorter than itself");
        assert_eq!(kinds(&[1, 1, 1, 2]), [], "no length");
        assert_eq!(kinds(&[]), []);
    }

    #[test]
    fn a_data_offset_that_lies_means_no_options() {
        let mut bytes = [2; 24];
        for (offset, len) in [(0, 24), (4, 24), (15, 24), (6, 23), (6, 12), (6, 0)] {
            bytes[12] = offset << 4;
            assert_eq!(of(&bytes[..len]).count(), 0, "offset {offset}, {len} bytes");
        }
    }

    /// Applies a change and compares the checksum that it gives with a new one.
    fn change(options: &[u8], act: impl FnOnce(&mut [u8]) -> Delta) -> Vec<u8> {
        let mut bytes = segment(options);
        let before = checksum(&bytes);
        let delta = act(&mut bytes);
        assert_eq!(delta.apply(before), checksum(&bytes));
        bytes
    }

    #[test]
    fn the_segment_size_is_lowered_never_raised() {
        let at_even = [2, 4, 5, 0xb4];
        let at_odd = [1, 2, 4, 5, 0xb4, 1, 1, 1];
        for options in [&at_even[..], &at_odd] {
            assert_eq!(mss(&change(options, |segment| lower_mss(segment, 1400))), Some(1400));
            assert_eq!(mss(&change(options, |segment| lower_mss(segment, 1460))), Some(1460));
        }
        let without = [1, 1, 4, 2];
        assert_eq!(change(&without, |segment| lower_mss(segment, 100)), segment(&without));
    }

    #[test]
    fn an_option_is_blanked_wherever_it_stands() {
        let options = [4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 3, 3, 7, 254, 4, 9, 9, 0];
        let bytes = change(&options, |segment| blank(segment, TIMESTAMPS).1);
        assert_eq!(of(&bytes).map(|place| place.kind).collect::<Vec<_>>(), [4, 3, 254]);
        assert_eq!(bytes[HEADER + 2..HEADER + 12], [NOP; 10]);
        let bytes = change(&options, |segment| blank(segment, EXPERIMENT_2).1);
        assert_eq!(bytes[HEADER + 15..HEADER + 20], [NOP, NOP, NOP, NOP, 0]);
        assert_eq!(blank(&mut segment(&[254, 2, 254, 2]), EXPERIMENT_2).0, 2);
    }

    #[test]
    fn every_edge_is_shifted() {
        let options = [1, 5, 18, 0, 0, 0, 10, 0, 0, 0, 20, 255, 255, 255, 255, 0, 0, 0, 5, 0];
        let bytes = change(&options, |segment| shift_sacks(segment, |edge| edge.wrapping_add(256)));
        let edges: [u32; 4] = core::array::from_fn(|nth| u32_at(&bytes, HEADER + 3 + 4 * nth));
        assert_eq!(edges, [266, 276, 255, 261]);
        let odd = [5, 7, 0, 0, 0, 1, 9, 0];
        let bytes = change(&odd, |segment| shift_sacks(segment, |edge| edge + 1));
        assert_eq!(bytes[HEADER..HEADER + 8], [5, 7, 0, 0, 0, 2, 9, 0]);
    }

    #[test]
    fn gathers_what_is_kept_behind_the_first() {
        let bytes = segment(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 4, 2, 0, 0]);
        let (options, len) = gather(&bytes, &[254, 4, 1, 2], |kind| kind == TIMESTAMPS).unwrap();
        assert_eq!(options[..len], [254, 4, 1, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0]);
        let full = segment(&[&[1, 1, 5, 34][..], &[7; 32]].concat());
        assert_eq!(gather(&full, &[254; 8], |_| true), None);
        assert_eq!(gather(&full, &[254; 8], |_| false).unwrap().1, 8);
    }
}
