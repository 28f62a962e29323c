//! Generic UDP encapsulation (draft-ietf-intarea-gue, variant 0), behind a UDP header.

use crate::Malformed;

const VERSION_CONTROL_LENGTH: usize = 0;
const PROTOCOL: usize = 1;

const VERSION: u8 = 0xc0;
const CONTROL: u8 = 0x20;
/// Length of the optional fields in 32-bit words.
const LENGTH: u8 = 0x1f;

/// Length of a header without optional fields.
pub const HEADER: usize = 4;

/// What the header of a data message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Protocol number of the payload.
    pub protocol: u8,
}

impl Header {
    /// Reads the header of a data message, which may be cut behind it, and gives its length; optional fields are
    /// skipped. Control messages and other variants are [`Malformed`].
    pub fn parse(message: &[u8]) -> Result<(Header, usize), Malformed> {
        if message.len() < HEADER || message[VERSION_CONTROL_LENGTH] & (VERSION | CONTROL) != 0 {
            return Err(Malformed);
        }
        let length = HEADER + usize::from(message[VERSION_CONTROL_LENGTH] & LENGTH) * 4;
        if message.len() < length {
            return Err(Malformed);
        }
        Ok((Header { protocol: message[PROTOCOL] }, length))
    }

    /// Writes a header without optional fields into the first [`HEADER`] of `bytes`.
    pub fn emit(self, bytes: &mut [u8]) {
        bytes[..HEADER].copy_from_slice(&[0, self.protocol, 0, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = [0xff; 8];
        Header { protocol: 41 }.emit(&mut bytes);
        assert_eq!(Header::parse(&bytes), Ok((Header { protocol: 41 }, 4)));
        assert!(Header::parse(&bytes[..3]).is_err());
    }

    #[test]
    fn optional_fields_are_skipped_and_other_messages_refused() {
        // A private flag with its field of remote checksum offload: two words.
        let offload = [0x02, 4, 0, 1, 0, 0, 0, 1, 0, 20, 0, 16];
        assert_eq!(Header::parse(&offload), Ok((Header { protocol: 4 }, 12)));
        assert!(Header::parse(&offload[..11]).is_err());
        assert!(Header::parse(&[0x20, 0, 0, 0]).is_err(), "control message");
        assert!(Header::parse(&[0x45, 0, 0, 20]).is_err(), "IPv4 right behind UDP");
    }
}
