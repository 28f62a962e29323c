//! Sequence numbers of a stream whose length the director changes: by an edit somewhere in it, by a header before it.
//!
//! Numbers are compared as TCP does (RFC 9293, 3.4): what is less than half the circle ahead is after.

/// Whether `a` comes after `b`.
#[inline]
pub(crate) fn after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

/// What edits did to one direction of a stream: from its sender's numbers to its receiver's. The last edit and the
/// sum of those before are known, as in the kernel: bytes of an older edit that are sent again after a newer one
/// come to be numbered like their successors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    /// The sender's number of the segment that was edited last.
    at: u32,
    /// What numbers behind it are shifted by, and those up to it.
    delta: u32,
    previous: u32,
}

impl Shift {
    /// Takes note that the segment that begins at `seq` became longer by `growth` (modulo 2^32: shorter). Of one
    /// that is sent again the shift is known already.
    // The kernel's rule (nf_ct_seqadj_set, vs_seq_update).
    pub(crate) fn edited(&mut self, seq: u32, growth: u32) {
        if growth != 0 && (self.delta == self.previous || after(seq, self.at)) {
            *self = Shift { at: seq, delta: self.delta.wrapping_add(growth), previous: self.delta };
        }
    }

    /// The receiver's number of the sender's.
    #[inline]
    pub(crate) fn seq(&self, seq: u32) -> u32 {
        seq.wrapping_add(if after(seq, self.at) { self.delta } else { self.previous })
    }

    /// The sender's number of what the receiver acknowledges: never more than has arrived.
    #[inline]
    pub(crate) fn ack(&self, ack: u32) -> u32 {
        let before = ack.wrapping_sub(self.previous);
        if !after(before, self.at) {
            return before;
        }
        let behind = ack.wrapping_sub(self.delta);
        if after(behind, self.at) { behind } else { self.at }
    }
}

/// A header that goes before the first byte of a stream, until its receiver has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// The sender's number of its own first byte.
    at: u32,
    /// The header's length.
    len: u16,
    /// Whether the receiver has acknowledged it.
    arrived: bool,
}

impl Prefix {
    /// A header of `len` bytes before the byte numbered `at`.
    pub(crate) fn new(at: u32, len: u16) -> Prefix {
        Prefix { at, len, arrived: false }
    }

    /// Whether the header has to go before the segment that begins at `seq`, once more if need be.
    #[inline]
    pub(crate) fn is_due(&self, seq: u32) -> bool {
        !self.arrived && seq == self.at
    }

    /// The receiver's number of the sender's, but for the SYN's; of a segment before which the header goes, the
    /// header's.
    // A header that has arrived shifts everything: two gigabytes on, its place will seem to lie ahead.
    #[inline]
    pub(crate) fn seq(&self, seq: u32) -> u32 {
        if self.arrived || after(seq, self.at) { seq.wrapping_add(self.len.into()) } else { seq }
    }

    /// The sender's number of what the receiver acknowledges: of the header's bytes the sender knows nothing.
    #[inline]
    pub(crate) fn ack(&self, ack: u32) -> u32 {
        let behind = ack.wrapping_sub(self.len.into());
        match (self.arrived, after(ack, self.at)) {
            (false, false) => ack,
            (false, true) if !after(behind, self.at) => self.at,
            _ => behind,
        }
    }

    /// Notes what the receiver acknowledges, by its own numbers.
    #[inline]
    pub(crate) fn acknowledged(&mut self, ack: u32) {
        self.arrived |= !after(self.at.wrapping_add(self.len.into()), ack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_goes_round() {
        assert!(after(1, 0) && after(0, u32::MAX) && !after(0, 0) && !after(u32::MAX, 0));
    }

    #[test]
    fn numbers_shift_as_the_kernel_was_seen_to_shift_them() {
        let mut shift = Shift::default();
        shift.edited(5001, 1);
        assert_eq!([5000, 5001, 5002, 5048].map(|seq| shift.seq(seq)), [5000, 5001, 5003, 5049]);
        assert_eq!([5001, 5002, 5003, 5030, 5049].map(|ack| shift.ack(ack)), [5001, 5001, 5002, 5029, 5048]);
        shift.edited(5001, 1);
        assert_eq!(shift.seq(5048), 5049, "sent again");
        shift.edited(5095, 1);
        assert_eq!([5001, 5095, 5142].map(|seq| shift.seq(seq)), [5002, 5096, 5144]);
        assert_eq!(shift.ack(5151), 5149);
    }

    #[test]
    fn an_edit_that_changes_no_length_changes_no_number() {
        let mut shift = Shift::default();
        shift.edited(5001, 3);
        shift.edited(6001, 0);
        assert_eq!((shift.seq(5001), shift.seq(6000)), (5001, 6003));
    }

    /// A receiver that has all bytes up to `ack`, told to the sender, is sent the next byte.
    #[test]
    fn acknowledgments_never_exceed_what_arrived_and_never_go_back() {
        for growth in [-20i32, -3, 1, 10] {
            for start in [1000, u32::MAX - 15] {
                let mut shift = Shift::default();
                shift.edited(start, growth as u32);
                let (old, new) = (30u32, 30u32.wrapping_add_signed(growth));
                let mut last = start.wrapping_sub(5);
                for ack in (0..100).map(|step| start.wrapping_sub(5).wrapping_add(step)) {
                    let told = shift.ack(ack);
                    assert!(!after(last, told), "{growth}: {ack} goes back");
                    last = told;
                    if after(ack, start.wrapping_add(new).wrapping_sub(1)) {
                        assert_eq!(shift.seq(told), ack, "{growth}: behind the edit");
                    } else {
                        assert!(!after(told, start.wrapping_add(old)), "{growth}: {ack} is told as {told}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_header_is_due_until_it_has_arrived_whole() {
        let mut prefix = Prefix::new(1001, 28);
        assert!(prefix.is_due(1001) && !prefix.is_due(1002));
        assert_eq!([1000, 1001, 1002].map(|seq| prefix.seq(seq)), [1000, 1001, 1030]);
        prefix.acknowledged(1028);
        assert!(prefix.is_due(1001));
        assert_eq!([1000, 1001, 1028, 1029, 1030].map(|ack| prefix.ack(ack)), [1000, 1001, 1001, 1001, 1002]);
        prefix.acknowledged(1029);
        assert!(!prefix.is_due(1001));
        assert_eq!([1000, 1001, 1002].map(|seq| prefix.seq(seq)), [1028, 1029, 1030]);
        assert_eq!([1029, 1030].map(|ack| prefix.ack(ack)), [1001, 1002]);
        prefix.acknowledged(1001);
        assert!(!prefix.is_due(1001), "an old acknowledgment");
    }

    #[test]
    fn a_header_shifts_a_stream_of_any_length() {
        let mut prefix = Prefix::new(1001, 28);
        prefix.acknowledged(1029);
        for gigabytes in 0..8u32 {
            let seq = 1001u32.wrapping_add(gigabytes << 29);
            assert_eq!(prefix.ack(prefix.seq(seq)), seq);
            assert_eq!(prefix.seq(seq), seq.wrapping_add(28));
        }
    }
}
