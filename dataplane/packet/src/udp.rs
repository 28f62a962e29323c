//! UDP headers (RFC 768); ports are in [`ports`](crate::ports).

use crate::Malformed;
use crate::field::{put_u16, u16_at};

const LENGTH: usize = 4;
const CHECKSUM: usize = 6;

/// Length of the header.
pub const HEADER: usize = 8;

/// A datagram. Its length field is not judged: IPVS does not either.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Datagram<T> {
    /// Checks that the header is there.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Datagram<T>, Malformed> {
        if bytes.as_ref().len() < HEADER { Err(Malformed) } else { Ok(Datagram { bytes }) }
    }

    /// Length of header and payload, as the sender says.
    #[inline]
    pub fn length(&self) -> u16 {
        u16_at(self.bytes.as_ref(), LENGTH)
    }

    /// Checksum; 0 = none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        u16_at(self.bytes.as_ref(), CHECKSUM)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Datagram<T> {
    /// Sets the checksum; a computed 0 goes out as 0xffff (RFC 768), pass it as that.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put_u16(self.bytes.as_mut(), CHECKSUM, checksum);
    }
}
