//! Neighbour solicitation and advertisement over Ethernet (RFC 4861).
//!
//! Parsing applies the validation rules of RFC 4861, 7.1, checksum included. One is the caller's: the hop limit
//! of the packet must be 255. What a message does to a neighbour table is not decided here.

use core::net::Ipv6Addr;

use crate::field::{mac_at, put_u32, u32_at};
use crate::icmp::Message;
use crate::icmpv6::{self, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION};
use crate::{Malformed, icmp};

const FLAGS: usize = 4;
const TARGET: usize = 8;
const OPTIONS: usize = 24;

const ROUTER: u32 = 1 << 31;
const SOLICITED: u32 = 1 << 30;
const OVERRIDE: u32 = 1 << 29;

const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
/// Length of an option with an Ethernet address.
const LINK_ADDRESS: usize = 8;

/// Length of a message without options.
pub const LEN: usize = OPTIONS;
/// Length of a message with an Ethernet address.
pub const LEN_WITH_ADDRESS: usize = OPTIONS + LINK_ADDRESS;

/// The group of all nodes on a link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The group of all routers on a link.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// The group in which an address is asked for (RFC 4291, 2.7.1).
#[inline]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | (address.to_bits() & 0x00ff_ffff))
}

/// Whether an address is such a group, of whatever address.
#[inline]
pub fn is_solicited_node(group: Ipv6Addr) -> bool {
    group == solicited_node(group)
}

/// The Ethernet address of a multicast group (RFC 2464, 7).
#[inline]
pub fn multicast_mac(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// A neighbour solicitation: whose is this address?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// The address asked for.
    pub target: Ipv6Addr,
    /// Who asks; none in duplicate address detection.
    pub source_mac: Option<[u8; 6]>,
}

impl Solicitation {
    /// Reads an ICMPv6 message that came from `src` to `dst`.
    pub fn parse(message: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<Solicitation, Malformed> {
        let target = target_of(message, NEIGHBOUR_SOLICITATION, src, dst)?;
        let source_mac = link_address(&message[OPTIONS..], SOURCE_LINK_ADDRESS)?;
        if src.is_unspecified() && (source_mac.is_some() || !is_solicited_node(dst)) {
            return Err(Malformed);
        }
        Ok(Solicitation { target, source_mac })
    }

    /// Writes the message with its checksum and gives its length; `bytes` holds at least [`LEN_WITH_ADDRESS`].
    pub fn emit(&self, bytes: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> usize {
        let option = self.source_mac.map(|mac| (SOURCE_LINK_ADDRESS, mac));
        emit(bytes, NEIGHBOUR_SOLICITATION, 0, self.target, option, src, dst)
    }
}

/// A neighbour advertisement: this address is mine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The address.
    pub target: Ipv6Addr,
    /// Where it is; an answer to a question sent to one station may leave it out.
    pub target_mac: Option<[u8; 6]>,
    /// The sender is a router.
    pub router: bool,
    /// It is an answer.
    pub solicited: bool,
    /// It is to replace what is known.
    pub replaces: bool,
}

impl Advertisement {
    /// Reads an ICMPv6 message that came from `src` to `dst`.
    pub fn parse(message: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<Advertisement, Malformed> {
        let target = target_of(message, NEIGHBOUR_ADVERTISEMENT, src, dst)?;
        let flags = u32_at(message, FLAGS);
        let advertisement = Advertisement {
            target,
            target_mac: link_address(&message[OPTIONS..], TARGET_LINK_ADDRESS)?,
            router: flags & ROUTER != 0,
            solicited: flags & SOLICITED != 0,
            replaces: flags & OVERRIDE != 0,
        };
        if dst.is_multicast() && advertisement.solicited { Err(Malformed) } else { Ok(advertisement) }
    }

    /// Writes the message with its checksum and gives its length; `bytes` holds at least [`LEN_WITH_ADDRESS`].
    pub fn emit(&self, bytes: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> usize {
        let bit = |set, flag| if set { flag } else { 0 };
        let flags = bit(self.router, ROUTER) | bit(self.solicited, SOLICITED) | bit(self.replaces, OVERRIDE);
        let option = self.target_mac.map(|mac| (TARGET_LINK_ADDRESS, mac));
        emit(bytes, NEIGHBOUR_ADVERTISEMENT, flags, self.target, option, src, dst)
    }
}

/// What both messages are checked for, and their target.
fn target_of(message: &[u8], kind: u8, src: Ipv6Addr, dst: Ipv6Addr) -> Result<Ipv6Addr, Malformed> {
    let header = Message::new_checked(message)?;
    let whole = message.len() >= LEN && icmpv6::checksum_ok(message, src, dst);
    if !whole || header.kind() != kind || header.code() != 0 {
        return Err(Malformed);
    }
    let mut target = [0; 16];
    target.copy_from_slice(&message[TARGET..OPTIONS]);
    let target = Ipv6Addr::from(target);
    if target.is_multicast() { Err(Malformed) } else { Ok(target) }
}

/// The Ethernet address in the first option of a type, after a walk over all of them.
fn link_address(mut options: &[u8], wanted: u8) -> Result<Option<[u8; 6]>, Malformed> {
    let mut found = None;
    while !options.is_empty() {
        let &[kind, units, ..] = options else { return Err(Malformed) };
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            return Err(Malformed);
        }
        if kind == wanted {
            if length != LINK_ADDRESS {
                return Err(Malformed);
            }
            found = found.or(Some(mac_at(options, 2)));
        }
        options = &options[length..];
    }
    Ok(found)
}

fn emit(
    bytes: &mut [u8],
    kind: u8,
    flags: u32,
    target: Ipv6Addr,
    option: Option<(u8, [u8; 6])>,
    src: Ipv6Addr,
    dst: Ipv6Addr,
) -> usize {
    icmp::emit(bytes, kind, 0, 0);
    put_u32(bytes, FLAGS, flags);
    bytes[TARGET..OPTIONS].copy_from_slice(&target.octets());
    let mut length = OPTIONS;
    if let Some((kind, mac)) = option {
        bytes[OPTIONS..OPTIONS + 2].copy_from_slice(&[kind, 1]);
        bytes[OPTIONS + 2..OPTIONS + LINK_ADDRESS].copy_from_slice(&mac);
        length += LINK_ADDRESS;
    }
    icmpv6::fill_checksum(&mut bytes[..length], src, dst);
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 2);
    const TARGET_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0x1234, 0x56ab, 0xcdef);
    const MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];

    /// Changes a byte and mends the sum, so that only the rule in question can refuse.
    fn with(message: &[u8], at: usize, value: u8, src: Ipv6Addr, dst: Ipv6Addr) -> [u8; LEN_WITH_ADDRESS] {
        let mut bytes: [u8; LEN_WITH_ADDRESS] = message.try_into().unwrap();
        bytes[at] = value;
        icmpv6::fill_checksum(&mut bytes, src, dst);
        bytes
    }

    #[test]
    fn groups_and_their_stations() {
        let group = solicited_node(TARGET_ADDRESS);
        assert_eq!(group, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xffab, 0xcdef));
        assert_eq!(multicast_mac(group), [0x33, 0x33, 0xff, 0xab, 0xcd, 0xef]);
        assert_eq!(multicast_mac(ALL_ROUTERS), [0x33, 0x33, 0, 0, 0, 2]);
        assert!(is_solicited_node(group) && !is_solicited_node(ALL_NODES));
    }

    #[test]
    fn a_solicitation_comes_back_and_is_judged() {
        let group = solicited_node(TARGET_ADDRESS);
        let asked = Solicitation { target: TARGET_ADDRESS, source_mac: Some(MAC) };
        let mut bytes = [0u8; LEN_WITH_ADDRESS];
        assert_eq!(asked.emit(&mut bytes, ASKER, group), LEN_WITH_ADDRESS);
        assert_eq!(Solicitation::parse(&bytes, ASKER, group), Ok(asked));
        let refused = |bytes: &[u8]| Solicitation::parse(bytes, ASKER, group).is_err();
        for (at, value, rule) in [
            (0, 136, "type"),
            (1, 1, "code"),
            (8, 0xff, "target"),
            (25, 0, "option length 0"),
            (25, 2, "option beyond the end"),
        ] {
            assert!(refused(&with(&bytes, at, value, ASKER, group)), "{rule}");
        }
        let mut wrong_sum = bytes;
        wrong_sum[3] ^= 1;
        assert!(refused(&wrong_sum));
        for cut in 0..LEN_WITH_ADDRESS {
            let mut cut_short = bytes;
            if cut >= icmp::HEADER {
                icmpv6::fill_checksum(&mut cut_short[..cut], ASKER, group);
            }
            assert_eq!(refused(&cut_short[..cut]), cut != LEN, "length {cut}");
        }
        // An option that nobody knows is walked past.
        let other = with(&bytes, 24, 14, ASKER, group);
        assert_eq!(Solicitation::parse(&other, ASKER, group).unwrap().source_mac, None);
    }

    #[test]
    fn duplicate_detection_asks_without_address_in_the_group() {
        let group = solicited_node(TARGET_ADDRESS);
        let nobody = Ipv6Addr::UNSPECIFIED;
        let asked = Solicitation { target: TARGET_ADDRESS, source_mac: None };
        let mut bytes = [0u8; LEN_WITH_ADDRESS];
        assert_eq!(asked.emit(&mut bytes, nobody, group), LEN);
        assert_eq!(Solicitation::parse(&bytes[..LEN], nobody, group), Ok(asked));
        asked.emit(&mut bytes, nobody, TARGET_ADDRESS);
        assert!(Solicitation::parse(&bytes[..LEN], nobody, TARGET_ADDRESS).is_err());
        let asked = Solicitation { source_mac: Some(MAC), ..asked };
        asked.emit(&mut bytes, nobody, group);
        assert!(Solicitation::parse(&bytes, nobody, group).is_err());
    }

    #[test]
    fn an_advertisement_comes_back_and_is_judged() {
        let mut bytes = [0u8; LEN_WITH_ADDRESS];
        for flags in 0..8u8 {
            let told = Advertisement {
                target: TARGET_ADDRESS,
                target_mac: (flags != 5).then_some(MAC),
                router: flags & 4 != 0,
                solicited: flags & 2 != 0,
                replaces: flags & 1 != 0,
            };
            let length = told.emit(&mut bytes, TARGET_ADDRESS, ASKER);
            assert_eq!(bytes[4], flags << 5);
            assert_eq!(Advertisement::parse(&bytes[..length], TARGET_ADDRESS, ASKER), Ok(told));
            let length = told.emit(&mut bytes, TARGET_ADDRESS, ALL_NODES);
            let to_all = Advertisement::parse(&bytes[..length], TARGET_ADDRESS, ALL_NODES);
            assert_eq!(to_all.is_err(), told.solicited);
        }
    }
}
