//! SCTP packets (RFC 9260): common header, chunks, CRC32c; ports are in [`ports`](crate::ports).

use crc::{CRC_32_ISCSI, Crc, Table};

use crate::Malformed;
use crate::field::{put_u16, put_u32, u16_at, u32_at};

const SRC: usize = 0;
const DST: usize = 2;
const TAG: usize = 4;
const CHECKSUM: usize = 8;

/// Length of the common header.
pub const HEADER: usize = 12;
/// Length of a chunk's header.
pub const CHUNK_HEADER: usize = 4;

/// Chunk type: user data.
pub const DATA: u8 = 0;
/// Chunk type: opens an association.
pub const INIT: u8 = 1;
/// Chunk type: answer to [`INIT`].
pub const INIT_ACK: u8 = 2;
/// Chunk type: selective acknowledgement.
pub const SACK: u8 = 3;
/// Chunk type: are you there?
pub const HEARTBEAT: u8 = 4;
/// Chunk type: answer to [`HEARTBEAT`].
pub const HEARTBEAT_ACK: u8 = 5;
/// Chunk type: ends an association at once.
pub const ABORT: u8 = 6;
/// Chunk type: begins an orderly end.
pub const SHUTDOWN: u8 = 7;
/// Chunk type: answer to [`SHUTDOWN`].
pub const SHUTDOWN_ACK: u8 = 8;
/// Chunk type: operation error.
pub const ERROR: u8 = 9;
/// Chunk type: the cookie comes back.
pub const COOKIE_ECHO: u8 = 10;
/// Chunk type: answer to [`COOKIE_ECHO`].
pub const COOKIE_ACK: u8 = 11;
/// Chunk type: end of an orderly end.
pub const SHUTDOWN_COMPLETE: u8 = 14;

static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// The checksum of a packet as its field holds it; what the field holds now does not count. `packet` holds at
/// least the common header.
pub fn checksum(packet: &[u8]) -> u32 {
    let mut digest = CRC32C.digest();
    digest.update(&packet[..CHECKSUM]);
    digest.update(&[0; 4]);
    digest.update(&packet[HEADER..]);
    // The CRC's least significant byte goes first (RFC 9260, appendix A).
    digest.finalize().swap_bytes()
}

/// A packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// Checks that the common header is there.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Packet<T>, Malformed> {
        if bytes.as_ref().len() < HEADER { Err(Malformed) } else { Ok(Packet { bytes }) }
    }

    /// Verification tag.
    #[inline]
    pub fn tag(&self) -> u32 {
        u32_at(self.bytes.as_ref(), TAG)
    }

    /// Checksum.
    #[inline]
    pub fn checksum(&self) -> u32 {
        u32_at(self.bytes.as_ref(), CHECKSUM)
    }

    /// Whether the checksum is right.
    pub fn checksum_ok(&self) -> bool {
        self.checksum() == checksum(self.bytes.as_ref())
    }

    /// The chunks, up to the first that contradicts itself or is cut short.
    #[inline]
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks { rest: &self.bytes.as_ref()[HEADER..] }
    }

    /// The chunk type that tells what the packet is about: its first chunk's, but [`ABORT`] when that is the
    /// second behind a cookie chunk. `None` without a chunk header. Only chunk headers are looked at: a packet
    /// whose chunks are cut is judged too, as IPVS does.
    pub fn leading_chunk(&self) -> Option<u8> {
        let chunks = &self.bytes.as_ref()[HEADER..];
        if chunks.len() < CHUNK_HEADER {
            return None;
        }
        let kind = chunks[0];
        if matches!(kind, COOKIE_ECHO | COOKIE_ACK) {
            let second = padded(usize::from(u16_at(chunks, 2)));
            if chunks.len() >= second + CHUNK_HEADER && chunks[second] == ABORT {
                return Some(ABORT);
            }
        }
        Some(kind)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Computes the checksum anew.
    pub fn fill_checksum(&mut self) {
        let sum = checksum(self.bytes.as_ref());
        put_u32(self.bytes.as_mut(), CHECKSUM, sum);
    }
}

/// A chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Type.
    pub kind: u8,
    /// Flags.
    pub flags: u8,
    /// What follows its header, without padding.
    pub value: &'a [u8],
}

/// The chunks of a packet.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let rest = self.rest;
        if rest.len() < CHUNK_HEADER {
            return None;
        }
        let length = usize::from(u16_at(rest, 2));
        if length < CHUNK_HEADER || length > rest.len() {
            self.rest = &[];
            return None;
        }
        self.rest = &rest[padded(length).min(rest.len())..];
        Some(Chunk { kind: rest[0], flags: rest[1], value: &rest[CHUNK_HEADER..length] })
    }
}

/// A chunk's length with its padding.
pub const fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// A common header, to be written with checksum 0.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Verification tag.
    pub tag: u32,
}

impl Header {
    /// Writes the header into the first [`HEADER`] of `bytes`.
    pub fn emit(&self, bytes: &mut [u8]) {
        put_u16(bytes, SRC, self.src_port);
        put_u16(bytes, DST, self.dst_port);
        put_u32(bytes, TAG, self.tag);
        put_u32(bytes, CHECKSUM, 0);
    }
}

impl Chunk<'_> {
    /// Length of the chunk with header and padding.
    pub fn emitted_len(&self) -> usize {
        padded(CHUNK_HEADER + self.value.len())
    }

    /// Writes the chunk into the first [`Chunk::emitted_len`] of `bytes`.
    pub fn emit(&self, bytes: &mut [u8]) {
        let end = CHUNK_HEADER + self.value.len();
        (bytes[0], bytes[1]) = (self.kind, self.flags);
        put_u16(bytes, 2, end as u16);
        bytes[CHUNK_HEADER..end].copy_from_slice(self.value);
        bytes[end..self.emitted_len()].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Ports;

    /// An INIT from port 3001 to 2905, as a kernel let it pass.
    const KNOWN_INIT: [u8; 32] = [
        0x0b, 0xb9, 0x0b, 0x59, 0, 0, 0, 0, 0x3e, 0x90, 0x0b, 0x46, 1, 0, 0, 0x14, 0, 0, 0x11, 0x11, 0, 0,
        0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1,
    ];

    #[test]
    fn the_checksum_is_the_one_that_others_compute() {
        let mut bytes = KNOWN_INIT;
        assert!(Packet::new_checked(&bytes[..]).unwrap().checksum_ok());
        // The kernel's translation of it to port 2906.
        Ports::new_checked(&mut bytes[..]).unwrap().set_dst(2906);
        assert!(!Packet::new_checked(&bytes[..]).unwrap().checksum_ok());
        Packet::new_checked(&mut bytes[..]).unwrap().fill_checksum();
        assert_eq!(bytes[8..12], [0xa0, 0xbb, 0x8b, 0x5b]);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = [0xee; 64];
        Header { src_port: 1, dst_port: 2, tag: 0x1234_5678 }.emit(&mut bytes);
        let chunks = [
            Chunk { kind: COOKIE_ECHO, flags: 0, value: b"cookie!" },
            Chunk { kind: DATA, flags: 3, value: &[7; 12] },
        ];
        let mut end = HEADER;
        for chunk in chunks {
            chunk.emit(&mut bytes[end..]);
            end += chunk.emitted_len();
        }
        assert_eq!(end, HEADER + 12 + 16);
        let mut packet = Packet::new_checked(&mut bytes[..end]).unwrap();
        packet.fill_checksum();
        assert!(packet.checksum_ok());
        assert_eq!(packet.tag(), 0x1234_5678);
        assert!(packet.chunks().eq(chunks));
        assert_eq!(packet.leading_chunk(), Some(COOKIE_ECHO));
        assert!(Packet::new_checked(&bytes[..HEADER - 1]).is_err());
    }

    #[test]
    fn chunks_that_lie_end_the_walk() {
        let with_chunks = |chunks: [u8; 12]| {
            let mut bytes = [0; HEADER + 12];
            bytes[HEADER..].copy_from_slice(&chunks);
            let packet = Packet::new_checked(bytes).unwrap();
            packet.chunks().count()
        };
        assert_eq!(with_chunks([DATA, 0, 0, 4, DATA, 0, 0, 8, 0, 0, 0, 0]), 2);
        assert_eq!(with_chunks([DATA, 0, 0, 0, DATA, 0, 0, 8, 0, 0, 0, 0]), 0, "length 0");
        assert_eq!(with_chunks([DATA, 0, 0, 3, DATA, 0, 0, 8, 0, 0, 0, 0]), 0, "length 3");
        assert_eq!(with_chunks([DATA, 0, 0, 4, DATA, 0, 0, 9, 0, 0, 0, 0]), 1, "beyond the end");
        // The last chunk's padding may be missing.
        assert_eq!(with_chunks([DATA, 0, 0, 5, 0, 0, 0, 0, DATA, 0, 0, 4]), 2);
        assert_eq!(with_chunks([DATA, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0]), 1);
    }

    #[test]
    fn an_abort_behind_a_cookie_leads() {
        let leading = |chunks: &[u8]| {
            let mut bytes = [0; HEADER + 16];
            bytes[HEADER..HEADER + chunks.len()].copy_from_slice(chunks);
            Packet::new_checked(&bytes[..HEADER + chunks.len()]).unwrap().leading_chunk()
        };
        assert_eq!(leading(&[COOKIE_ACK, 0, 0, 4, ABORT, 0, 0, 4]), Some(ABORT));
        assert_eq!(leading(&[COOKIE_ECHO, 0, 0, 5, 1, 0, 0, 0, ABORT, 0, 0, 4]), Some(ABORT));
        assert_eq!(leading(&[COOKIE_ACK, 0, 0, 4, DATA, 0, 0, 4]), Some(COOKIE_ACK));
        assert_eq!(leading(&[COOKIE_ACK, 0, 0xff, 0xff]), Some(COOKIE_ACK));
        assert_eq!(leading(&[COOKIE_ACK, 0, 0, 0]), Some(COOKIE_ACK));
        assert_eq!(leading(&[DATA, 0, 0, 4, ABORT, 0, 0, 4]), Some(DATA));
        assert_eq!((leading(&[DATA, 0, 0]), leading(&[])), (None, None));
    }
}
