//! TCP headers (RFC 9293), as far as a director reads them: sequence numbers, flags, checksum; ports are in
//! [`ports`](crate::ports).

pub mod options;

use crate::Malformed;
use crate::checksum::Delta;
use crate::field::{put_u16, put_u32, u16_at, u32_at};

const SRC: usize = 0;
const DST: usize = 2;
const SEQ: usize = 4;
const ACK_NUMBER: usize = 8;
const OFFSET: usize = 12;
const FLAGS: usize = 13;
const CHECKSUM: usize = 16;

/// Length of a header without options.
pub const HEADER: usize = 20;

/// Flag FIN.
pub const FIN: u8 = 0x01;
/// Flag SYN.
pub const SYN: u8 = 0x02;
/// Flag RST.
pub const RST: u8 = 0x04;
/// Flag PSH.
pub const PSH: u8 = 0x08;
/// Flag ACK.
pub const ACK: u8 = 0x10;

/// A segment. The data offset is not judged: IPVS does not either.
#[derive(Clone, Copy, Debug)]
pub struct Segment<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Segment<T> {
    /// Checks that the fixed header is there.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Segment<T>, Malformed> {
        if bytes.as_ref().len() < HEADER { Err(Malformed) } else { Ok(Segment { bytes }) }
    }

    /// Sequence number.
    #[inline]
    pub fn seq(&self) -> u32 {
        u32_at(self.bytes.as_ref(), SEQ)
    }

    /// Acknowledgment number.
    #[inline]
    pub fn ack(&self) -> u32 {
        u32_at(self.bytes.as_ref(), ACK_NUMBER)
    }

    /// Header length in bytes by the data offset; may lie (less than 20, more than the segment).
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes.as_ref()[OFFSET] >> 4) * 4
    }

    /// Flags.
    #[inline]
    pub fn flags(&self) -> u8 {
        self.bytes.as_ref()[FLAGS]
    }

    /// Checksum.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes.as_ref(), CHECKSUM)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Segment<T> {
    /// Sets the sequence number; gives the change for the checksum.
    #[inline]
    pub fn set_seq(&mut self, seq: u32) -> Delta {
        let delta = Delta::default().double(self.seq(), seq);
        put_u32(self.bytes.as_mut(), SEQ, seq);
        delta
    }

    /// Sets the acknowledgment number; gives the change for the checksum.
    #[inline]
    pub fn set_ack(&mut self, ack: u32) -> Delta {
        let delta = Delta::default().double(self.ack(), ack);
        put_u32(self.bytes.as_mut(), ACK_NUMBER, ack);
        delta
    }

    /// Sets the data offset by the header's length, a multiple of 4 up to 60; gives the change for the checksum.
    #[inline]
    pub fn set_header_len(&mut self, len: usize) -> Delta {
        let bytes = self.bytes.as_mut();
        let old = u16_at(bytes, OFFSET);
        bytes[OFFSET] = ((len / 4) << 4) as u8 | bytes[OFFSET] & 0x0f;
        Delta::default().word(old, u16_at(bytes, OFFSET))
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put_u16(self.bytes.as_mut(), CHECKSUM, checksum);
    }
}

/// A header without options, to be written with checksum 0.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window: u16,
}

impl Header {
    /// Writes the header into the first [`HEADER`] of `bytes`.
    pub fn emit(&self, bytes: &mut [u8]) {
        bytes[..HEADER].fill(0);
        put_u16(bytes, SRC, self.src_port);
        put_u16(bytes, DST, self.dst_port);
        put_u32(bytes, SEQ, self.seq);
        put_u32(bytes, ACK_NUMBER, self.ack);
        bytes[OFFSET] = 5 << 4;
        bytes[FLAGS] = self.flags;
        put_u16(bytes, 14, self.window);
    }
}
