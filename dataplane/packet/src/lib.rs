//! Network headers as checked views over the bytes of a frame.
//!
//! A view is made with `new_checked`, which proves that no accessor can run past the end; accessors then read
//! straight from the bytes, setters write there. Nothing is copied, nothing allocated. What a header means to
//! a director is not decided here.

#![no_std]
#![forbid(unsafe_code)]

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod gre;
pub mod gue;
pub mod icmp;
pub mod icmpv6;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod ndisc;
pub mod ports;
pub mod sctp;
pub mod tcp;
pub mod udp;

/// The bytes are too few for the header, or contradict it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("malformed header")
    }
}

impl core::error::Error for Malformed {}

/// Big-endian reads and writes at fixed offsets; the views have proved that they are in range.
mod field {
    #[inline]
    pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
        u16::from_be_bytes([bytes[at], bytes[at + 1]])
    }

    #[inline]
    pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    }

    #[inline]
    pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn mac_at(bytes: &[u8], at: usize) -> [u8; 6] {
        let mut mac = [0; 6];
        mac.copy_from_slice(&bytes[at..at + 6]);
        mac
    }
}
