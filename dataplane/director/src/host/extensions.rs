//! IPv6 extension headers, as every node on the way treats them (RFC 8200, 4; Linux: ip6_parse_tlv).
//!
//! Only hop-by-hop options are looked at here; the others are for the receiver of the packet.

use fulcrum_packet::ipv6;

use super::Error;

const PAD1: u8 = 0;
const PADN: u8 = 1;
const ROUTER_ALERT: u8 = 0x05;
const JUMBO_PAYLOAD: u8 = 0xc2;

/// What is to be done with a packet that has an option which nobody knows: the upper two bits of its type.
const SKIP: u8 = 0;
const DROP: u8 = 1;

/// The longest padding: more is a hidden channel or a mistake.
const MAX_PADDING: usize = 7;
/// Options at most that are no padding. // Linux: max_hbh_opts_number
const MAX_OPTIONS: usize = 8;

/// Checks the hop-by-hop options of an IP packet whose headers have been checked. A packet that must not go on gives
/// the error to be sent about it, if any.
pub(crate) fn hop_by_hop(packet: &[u8]) -> Result<(), Option<Error>> {
    if packet[0] >> 4 != 6 || packet[6] != ipv6::HOP_BY_HOP {
        return Ok(());
    }
    let end = ipv6::HEADER + (usize::from(packet[ipv6::HEADER + 1]) + 1) * 8;
    let mut at = ipv6::HEADER + 2;
    let (mut padding, mut options) = (0, 0);
    while at < end {
        let kind = packet[at];
        let length = match kind {
            PAD1 => 1,
            _ if at + 2 > end => return Err(None),
            _ => 2 + usize::from(packet[at + 1]),
        };
        if at + length > end {
            return Err(None);
        }
        let option = &packet[at..at + length];
        if kind == PAD1 || kind == PADN {
            padding += length;
            if padding > MAX_PADDING || option[1..].iter().skip(1).any(|&byte| byte != 0) {
                return Err(None);
            }
        } else {
            padding = 0;
            options += 1;
            if options > MAX_OPTIONS {
                return Err(None);
            }
            known(kind, length, at)?;
        }
        at += length;
    }
    Ok(())
}

fn known(kind: u8, length: usize, at: usize) -> Result<(), Option<Error>> {
    // At most 40 + 2048: the length of the header has eight bits.
    let at = at as u16;
    match kind {
        ROUTER_ALERT if length == 4 => Ok(()),
        ROUTER_ALERT => Err(None),
        // No packet here is as long as that; a payload length beside it is wrong (RFC 2675, 3).
        JUMBO_PAYLOAD if length == 6 => Err(Some(Error::ParameterProblem(at))),
        JUMBO_PAYLOAD => Err(None),
        _ => match kind >> 6 {
            SKIP => Ok(()),
            DROP => Err(None),
            _ => Err(Some(Error::UnknownOption(at))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[u8]) -> Result<(), Option<Error>> {
        let units = (options.len() + 2).div_ceil(8);
        let mut packet = [0; 40].to_vec();
        (packet[0], packet[6]) = (0x60, ipv6::HOP_BY_HOP);
        packet.extend([6, units as u8 - 1]);
        packet.extend(options);
        packet.resize(40 + units * 8, PAD1);
        hop_by_hop(&packet)
    }

    #[test]
    fn padding_and_what_may_be_skipped_pass() {
        for options in [&[][..], &[PADN, 4, 0, 0, 0, 0], &[ROUTER_ALERT, 2, 0, 0], &[0x1e, 2, 7, 7]] {
            assert_eq!(of(options), Ok(()), "{options:?}");
        }
        let mut four = [0; 40];
        four[0] = 0x45;
        assert_eq!(hop_by_hop(&four), Ok(()), "IPv4 has none");
    }

    #[test]
    fn what_must_not_go_on_is_dropped_or_reported() {
        for options in [
            &[PADN, 9, 0, 0, 0, 0][..],
            &[PADN, 4, 0, 0, 0, 1],
            &[PADN, 0, PADN, 4, 0, 0, 0, 0, PADN, 4, 0, 0, 0, 0],
            &[ROUTER_ALERT, 0, 0, 0],
            &[0x5e, 2, 7, 7],
            &[0x1e; 18],
            &[PADN, 3, 0, 0, 0, 0x1e],
        ] {
            assert_eq!(of(options), Err(None), "{options:?}");
        }
        assert_eq!(of(&[0x9e, 2, 7, 7]), Err(Some(Error::UnknownOption(42))));
        assert_eq!(of(&[PAD1, PAD1, 0xde, 2, 7, 7]), Err(Some(Error::UnknownOption(44))));
        assert_eq!(of(&[JUMBO_PAYLOAD, 4, 0, 1, 0, 0]), Err(Some(Error::ParameterProblem(42))));
        let many: Vec<u8> = [0x1e, 0].repeat(MAX_OPTIONS + 1);
        assert_eq!((of(&many[2..]), of(&many)), (Ok(()), Err(None)));
    }
}
