//! Source and destination port: where TCP, UDP and SCTP are alike.

use crate::Malformed;
use crate::checksum::Delta;
use crate::field::{put_u16, u16_at};

const SRC: usize = 0;
const DST: usize = 2;

/// Length of both.
pub const LEN: usize = 4;

/// The ports at the beginning of a transport header.
#[derive(Clone, Copy, Debug)]
pub struct Ports<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Ports<T> {
    /// Checks that both are there.
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Ports<T>, Malformed> {
        if bytes.as_ref().len() < LEN { Err(Malformed) } else { Ok(Ports { bytes }) }
    }

    /// Source port.
    #[inline]
    pub fn src(&self) -> u16 {
        u16_at(self.bytes.as_ref(), SRC)
    }

    /// Destination port.
    #[inline]
    pub fn dst(&self) -> u16 {
        u16_at(self.bytes.as_ref(), DST)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Ports<T> {
    /// Sets the source port; gives the change for the checksum.
    #[inline]
    pub fn set_src(&mut self, port: u16) -> Delta {
        let delta = Delta::default().word(self.src(), port);
        put_u16(self.bytes.as_mut(), SRC, port);
        delta
    }

    /// Sets the destination port; gives the change for the checksum.
    #[inline]
    pub fn set_dst(&mut self, port: u16) -> Delta {
        let delta = Delta::default().word(self.dst(), port);
        put_u16(self.bytes.as_mut(), DST, port);
        delta
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_both_is_the_change_of_the_sum() {
        let mut bytes = [0x12, 0x34, 0x00, 0x50, 0xab, 0xcd];
        let before = crate::checksum::checksum(&bytes);
        let mut ports = Ports::new_checked(&mut bytes[..]).unwrap();
        let delta = ports.set_src(40_001).and(ports.set_dst(8000));
        assert_eq!((ports.src(), ports.dst()), (40_001, 8000));
        assert_eq!(delta.apply(before), crate::checksum::checksum(&bytes));
        assert!(Ports::new_checked(&bytes[..3]).is_err());
    }
}
