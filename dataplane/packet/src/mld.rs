//! Multicast listener discovery, version 2 (RFC 3810): reports, and what of a query a listener has to know.
//!
//! A switch that snoops passes a group's frames on only to who reported to listen.

use core::net::Ipv6Addr;

use crate::field::put_u16;
use crate::{Malformed, icmpv6, ipv6};

/// Where reports go: all routers that know this version.
pub const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Hop limit of every message.
pub const HOP_LIMIT: u8 = 1;
/// Length of the hop-by-hop header with a router alert, which every message has.
pub const ROUTER_ALERT: usize = 8;
/// Length of a report without records.
pub const REPORT: usize = 8;
/// Length of a record without sources.
pub const RECORD: usize = 20;

const COUNT: usize = 6;
const GROUP: usize = 8;

/// What a record says of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Change {
    /// All sources are listened to: the answer to a query.
    IsExclude = 2,
    /// All sources are listened to from now on.
    ToExclude = 4,
}

/// The hop-by-hop header, with a router alert, before an ICMPv6 message.
pub const fn router_alert() -> [u8; ROUTER_ALERT] {
    [ipv6::ICMP, 0, 5, 2, 0, 0, 1, 0]
}

/// Writes a record that all sources of a group are listened to to the front of `bytes`.
pub fn emit_record(bytes: &mut [u8], change: Change, group: Ipv6Addr) {
    bytes[..4].copy_from_slice(&[change as u8, 0, 0, 0]);
    bytes[4..RECORD].copy_from_slice(&group.octets());
}

/// Writes the header of a report before its `records`, which are there, and the checksum over all of `bytes`.
pub fn finish_report(bytes: &mut [u8], records: u16, src: Ipv6Addr, dst: Ipv6Addr) {
    bytes[..REPORT].fill(0);
    bytes[0] = icmpv6::LISTENER_REPORT_2;
    put_u16(bytes, COUNT, records);
    let sum = icmpv6::checksum(bytes, src, dst);
    put_u16(bytes, 2, sum);
}

/// The group that a query asks for; unspecified when it asks for all. `message` begins with the ICMPv6 header.
pub fn queried_group(message: &[u8]) -> Result<Ipv6Addr, Malformed> {
    let octets: [u8; 16] =
        message.get(GROUP..GROUP + 16).and_then(|bytes| bytes.try_into().ok()).ok_or(Malformed)?;
    Ok(octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_its_records_and_a_right_sum() {
        let (src, group) =
            (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1));
        let mut bytes = [0xee; REPORT + RECORD];
        emit_record(&mut bytes[REPORT..], Change::ToExclude, group);
        finish_report(&mut bytes, 1, src, ROUTERS);
        assert_eq!((bytes[0], bytes[7], bytes[8]), (143, 1, 4));
        assert_eq!(icmpv6::checksum(&bytes, src, ROUTERS), 0);
        assert_eq!(bytes[12..], group.octets());
    }

    #[test]
    fn a_query_names_its_group() {
        let mut query = [0; 28];
        assert_eq!(queried_group(&query), Ok(Ipv6Addr::UNSPECIFIED));
        query[8] = 0xff;
        assert_eq!(queried_group(&query).unwrap().octets()[0], 0xff);
        assert_eq!(queried_group(&query[..23]), Err(Malformed));
    }
}
