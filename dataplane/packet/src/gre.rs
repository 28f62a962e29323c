//! GRE headers (RFC 2784, RFC 2890).

use crate::Malformed;
use crate::checksum::checksum;
use crate::field::{put_u16, put_u32, u16_at};

const FLAGS: usize = 0;
const TYPE: usize = 2;
const CHECKSUM: usize = 4;

const CHECKSUM_PRESENT: u16 = 0x8000;
const KEY_PRESENT: u16 = 0x2000;
const SEQUENCE_PRESENT: u16 = 0x1000;
/// The bits that must be 0: routing (RFC 1701), version.
const UNKNOWN: u16 = 0x4007;

/// Protocol number of GRE.
pub const PROTOCOL: u8 = 47;
/// Length of a header without options.
pub const HEADER: usize = 4;
/// What a checksum adds to it.
pub const CHECKSUM_LEN: usize = 4;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Ethernet type of the payload.
    pub ethertype: u16,
    /// Whether a checksum is there.
    pub checksum: bool,
}

impl Header {
    /// Reads the header of a GRE packet, which may be cut behind it, and gives its length; key and sequence
    /// number are skipped, the checksum is not judged.
    pub fn parse(packet: &[u8]) -> Result<(Header, usize), Malformed> {
        if packet.len() < HEADER {
            return Err(Malformed);
        }
        let flags = u16_at(packet, FLAGS);
        let options = flags & (CHECKSUM_PRESENT | KEY_PRESENT | SEQUENCE_PRESENT);
        let length = HEADER + options.count_ones() as usize * 4;
        if flags & UNKNOWN != 0 || packet.len() < length {
            return Err(Malformed);
        }
        let header = Header { ethertype: u16_at(packet, TYPE), checksum: flags & CHECKSUM_PRESENT != 0 };
        Ok((header, length))
    }

    /// Length of the header that [`Header::emit`] writes.
    pub const fn header_len(self) -> usize {
        if self.checksum { HEADER + CHECKSUM_LEN } else { HEADER }
    }

    /// Writes the header into the first [`Header::header_len`] bytes of `packet`, which goes on with the payload.
    pub fn emit(self, packet: &mut [u8]) {
        put_u16(packet, FLAGS, if self.checksum { CHECKSUM_PRESENT } else { 0 });
        put_u16(packet, TYPE, self.ethertype);
        if self.checksum {
            put_u32(packet, CHECKSUM, 0);
            let sum = checksum(packet);
            put_u16(packet, CHECKSUM, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (checksum, length) in [(false, 4), (true, 8)] {
            let header = Header { ethertype: 0x86dd, checksum };
            let mut packet = [0xa5; 30];
            header.emit(&mut packet);
            assert_eq!((header.header_len(), Header::parse(&packet)), (length, Ok((header, length))));
            if checksum {
                assert_eq!(crate::checksum::checksum(&packet), 0);
            }
            for cut in 0..length {
                assert!(Header::parse(&packet[..cut]).is_err(), "length {cut}");
            }
        }
    }

    #[test]
    fn options_are_skipped_and_other_versions_refused() {
        let with_flags = |flags: u8, low: u8| {
            let mut packet = [0; 16];
            (packet[0], packet[1]) = (flags, low);
            Header::parse(&packet).map(|(_, length)| length)
        };
        assert_eq!(with_flags(0xb0, 0), Ok(16));
        assert_eq!(with_flags(0x20, 0), Ok(8));
        assert!(with_flags(0x40, 0).is_err() && with_flags(0, 1).is_err());
    }
}
