//! UDP headers (RFC 768); ports are in [`ports`](crate::ports).

use crate::Malformed;
use crate::checksum::Delta;
use crate::field::{put_u16, u16_at};

const SRC: usize = 0;
const DST: usize = 2;
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
    /// Sets the length of header and payload; gives the change for the checksum.
    #[inline]
    pub fn set_length(&mut self, length: u16) -> Delta {
        let delta = Delta::default().word(self.length(), length);
        put_u16(self.bytes.as_mut(), LENGTH, length);
        delta
    }

    /// Sets the checksum; a computed 0 goes out as 0xffff (RFC 768), pass it as that.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put_u16(self.bytes.as_mut(), CHECKSUM, checksum);
    }
}

/// A header, to be written with checksum 0.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Length of header and payload.
    pub length: u16,
}

impl Header {
    /// Writes the header into the first [`HEADER`] of `bytes`.
    pub fn emit(&self, bytes: &mut [u8]) {
        put_u16(bytes, SRC, self.src_port);
        put_u16(bytes, DST, self.dst_port);
        put_u16(bytes, LENGTH, self.length);
        put_u16(bytes, CHECKSUM, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = [0xff; HEADER];
        Header { src_port: 6080, dst_port: 53, length: 300 }.emit(&mut bytes);
        let datagram = Datagram::new_checked(&bytes[..]).unwrap();
        assert_eq!((datagram.length(), datagram.checksum()), (300, 0));
        let ports = crate::ports::Ports::new_checked(&bytes[..]).unwrap();
        assert_eq!((ports.src(), ports.dst()), (6080, 53));
        assert!(Datagram::new_checked(&bytes[..HEADER - 1]).is_err());
    }
}
