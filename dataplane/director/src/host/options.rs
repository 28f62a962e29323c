//! IPv4 options, as a host and router treats them (RFC 791, RFC 1812; Linux: ip_options_compile).
//!
//! Record route and time stamp are filled in, source routes refused, nonsense answered with a parameter problem.

use std::net::Ipv4Addr;

use fulcrum_packet::{checksum, ipv4};

use crate::Nanos;

const END: u8 = 0;
const NOP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const TIMESTAMP: u8 = 68;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
const ROUTER_ALERT: u8 = 148;

/// Bit of an option's type: to be copied into every fragment.
const COPIED: u8 = 0x80;

/// What is wrong with a header's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// Malformed; the offset in the header, for a parameter problem.
    At(u16),
    /// A source route, which is dropped.
    SourceRoute,
}

/// Walks the options of a header (options included), filling in what routers fill in with `own`, and keeps the
/// checksum right.
pub(crate) fn process(header: &mut [u8], own: Ipv4Addr, now: Nanos) -> Result<(), Bad> {
    let mut at = ipv4::HEADER;
    let mut changed = false;
    while at < header.len() {
        match header[at] {
            END => {
                changed |= header[at..].iter().any(|&byte| byte != END);
                header[at..].fill(END);
                break;
            }
            NOP => at += 1,
            kind => {
                let left = header.len() - at;
                if left < 2 || usize::from(header[at + 1]) < 2 || usize::from(header[at + 1]) > left {
                    return Err(bad(at));
                }
                let length = usize::from(header[at + 1]);
                let option = &mut header[at..at + length];
                match kind {
                    LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Bad::SourceRoute),
                    RECORD_ROUTE => {
                        changed |= record_route(option, own).map_err(|offset| bad(at + offset))?
                    }
                    TIMESTAMP => changed |= timestamp(option, own, now).map_err(|offset| bad(at + offset))?,
                    ROUTER_ALERT if length < 4 => return Err(bad(at + 1)),
                    _ => {}
                }
                at += length;
            }
        }
    }
    if changed {
        header[10..12].fill(0);
        let sum = checksum::checksum(header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    Ok(())
}

fn bad(at: usize) -> Bad {
    Bad::At(at as u16)
}

/// Gives whether the option was changed, or the offset of what is wrong.
fn record_route(option: &mut [u8], own: Ipv4Addr) -> Result<bool, usize> {
    if option.len() < 3 {
        return Err(1);
    }
    let pointer = usize::from(option[2]);
    if pointer < 4 {
        return Err(2);
    }
    if pointer > option.len() {
        return Ok(false);
    }
    if pointer + 3 > option.len() {
        return Err(2);
    }
    option[pointer - 1..pointer + 3].copy_from_slice(&own.octets());
    option[2] += 4;
    Ok(true)
}

fn timestamp(option: &mut [u8], own: Ipv4Addr, now: Nanos) -> Result<bool, usize> {
    if option.len() < 4 {
        return Err(1);
    }
    let pointer = usize::from(option[2]);
    if pointer < 5 {
        return Err(2);
    }
    if pointer > option.len() {
        let overflow = option[3] >> 4;
        if overflow == 15 {
            return Err(3);
        }
        option[3] += 0x10;
        return Ok(true);
    }
    let flag = option[3] & 15;
    let size = match flag {
        0 => 4,
        1 | 3 => 8,
        _ => return Ok(false),
    };
    if pointer + size - 1 > option.len() {
        return Err(2);
    }
    let slot = &mut option[pointer - 1..pointer - 1 + size];
    match flag {
        1 => slot[..4].copy_from_slice(&own.octets()),
        // The sender named who is to stamp.
        3 if slot[..4] != own.octets() => return Ok(false),
        _ => {}
    }
    // Milliseconds of an arbitrary clock, which RFC 791 marks by the high bit.
    let stamp = ((now / 1_000_000) as u32) | 0x8000_0000;
    slot[size - 4..].copy_from_slice(&stamp.to_be_bytes());
    option[2] += size as u8;
    Ok(true)
}

/// Blanks the options that only a first fragment carries.
pub(crate) fn keep_copied(options: &mut [u8]) {
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            END => return,
            NOP => at += 1,
            kind => {
                let length = options.get(at + 1).map_or(0, |&length| usize::from(length));
                if length < 2 || at + length > options.len() {
                    return;
                }
                if kind & COPIED == 0 {
                    options[at..at + length].fill(NOP);
                }
                at += length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

    fn run(options: &[u8]) -> (Result<(), Bad>, Vec<u8>) {
        let mut header = vec![0u8; ipv4::HEADER];
        header.extend_from_slice(options);
        let result = process(&mut header, OWN, 0);
        (result, header[ipv4::HEADER..].to_vec())
    }

    #[test]
    fn route_is_recorded() {
        let (result, options) = run(&[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!((result, &options[..8]), (Ok(()), &[7, 11, 8, 10, 0, 0, 100, 0][..]));
        assert_eq!(run(&[7, 7, 8, 1, 2, 3, 4, 0]), (Ok(()), vec![7, 7, 8, 1, 2, 3, 4, 0]));
    }

    #[test]
    fn nonsense_is_located() {
        assert_eq!(run(&[7, 255, 4, 0]).0, Err(Bad::At(20)));
        assert_eq!(run(&[1, 1, 1, 0x99]).0, Err(Bad::At(23)));
        assert_eq!(run(&[7, 3, 3, 0]).0, Err(Bad::At(22)));
        assert_eq!(run(&[7, 6, 4, 0, 0, 0, 0, 0]).0, Err(Bad::At(22)));
        assert_eq!(run(&[131, 7, 4, 10, 0, 0, 101, 0]).0, Err(Bad::SourceRoute));
    }

    #[test]
    fn no_option_bytes_panic() {
        for kind in 0..=255u8 {
            for length in 0..=12u8 {
                for pointer in 0..=16u8 {
                    for flag in [0, 1, 3, 0xf0] {
                        let _ = run(&[kind, length, pointer, flag, 0, 0, 0, 0, 0, 0, 0, 0]);
                    }
                }
            }
        }
    }
}
