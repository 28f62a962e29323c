//! Linux interfaces: what they are, up or down, the XDP program on them, and which one leads out of the host.

use std::fs;
use std::io;

use nix::sys::socket::SockProtocol;

use super::netlink::{self, ACK, DUMP, Message, REQUEST, Socket, attribute, text_of, u32_of};

// linux/rtnetlink.h, linux/if_link.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_STATS64: u16 = 23;
/// Place of rx_dropped in struct rtnl_link_stats64.
const RX_DROPPED: usize = 6 * 8;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_ATTACHED: u16 = 2;
// linux/if.h
const IFF_UP: u32 = 0x1;
const IFF_RUNNING: u32 = 0x40;
const IFF_PROMISC: u32 = 0x100;
const IFF_ALLMULTI: u32 = 0x200;

/// A Linux interface as it was when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// Its MAC address, if it has one.
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) mtu: u32,
    /// Such as `veth`; empty for devices.
    pub(crate) kind: String,
    pub(crate) up: bool,
    /// Whether there is somebody at the other end.
    pub(crate) running: bool,
    pub(crate) promiscuous: bool,
    /// Whether it takes frames for every multicast address.
    pub(crate) all_multicast: bool,
    /// Whether an XDP program is attached.
    pub(crate) xdp: bool,
    /// Frames that came in and were dropped by the kernel.
    pub(crate) dropped: u64,
}

/// The interface of that name.
pub(crate) fn find(name: &str) -> io::Result<Link> {
    let message = Message::new(RTM_GETLINK, REQUEST | ACK).raw(&header(0, 0, 0)).text(IFLA_IFNAME, name);
    let answer = Socket::open(SockProtocol::NetlinkRoute)?.request(message)?;
    answer.first().and_then(|payload| parse(payload)).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// All interfaces.
pub(crate) fn all() -> io::Result<Vec<Link>> {
    let message = Message::new(RTM_GETLINK, REQUEST | ACK | DUMP).raw(&header(0, 0, 0));
    let answer = Socket::open(SockProtocol::NetlinkRoute)?.request(message)?;
    Ok(answer.iter().filter_map(|payload| parse(payload)).collect())
}

/// Gives an interface that was just made its MAC address and MTU, and brings it up; gives its index.
pub(crate) fn set_up_twin(name: &str, mac: [u8; 6], mtu: u16) -> io::Result<u32> {
    let index = find(name)?.index;
    set_mac(index, mac)?;
    set_mtu(index, mtu.into())?;
    set_up(index, true)?;
    Ok(index)
}

/// Gives the interface another MAC address.
pub(crate) fn set_mac(index: u32, mac: [u8; 6]) -> io::Result<()> {
    let message =
        Message::new(RTM_NEWLINK, REQUEST | ACK).raw(&header(index, 0, 0)).attribute(IFLA_ADDRESS, &mac);
    Socket::open(SockProtocol::NetlinkRoute)?.request(message).map(drop)
}

/// Gives the interface another MTU.
pub(crate) fn set_mtu(index: u32, mtu: u32) -> io::Result<()> {
    let message = Message::new(RTM_NEWLINK, REQUEST | ACK)
        .raw(&header(index, 0, 0))
        .attribute(IFLA_MTU, &mtu.to_ne_bytes());
    Socket::open(SockProtocol::NetlinkRoute)?.request(message).map(drop)
}

/// Brings the interface up or down.
pub(crate) fn set_up(index: u32, up: bool) -> io::Result<()> {
    set_flag(index, IFF_UP, up)
}

/// Lets the interface take frames for every address, or only for its own.
pub(crate) fn set_promiscuous(index: u32, promiscuous: bool) -> io::Result<()> {
    set_flag(index, IFF_PROMISC, promiscuous)
}

/// Lets the interface take frames for every multicast address, or only for those that somebody has joined.
pub(crate) fn set_all_multicast(index: u32, all: bool) -> io::Result<()> {
    set_flag(index, IFF_ALLMULTI, all)
}

/// Takes the XDP program off the interface.
pub(crate) fn detach_xdp(index: u32) -> io::Result<()> {
    let message = Message::new(RTM_SETLINK, REQUEST | ACK)
        .raw(&header(index, 0, 0))
        .nested(IFLA_XDP, |m| m.attribute(IFLA_XDP_FD, &(-1i32).to_ne_bytes()));
    Socket::open(SockProtocol::NetlinkRoute)?.request(message).map(drop)
}

/// Whether a default route of this network namespace leaves by the interface.
pub(crate) fn carries_default_route(name: &str) -> bool {
    let v4 = fs::read_to_string("/proc/self/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/self/net/ipv6_route").unwrap_or_default();
    v4_default(&v4, name) || v6_default(&v6, name)
}

fn set_flag(index: u32, flag: u32, on: bool) -> io::Result<()> {
    let message =
        Message::new(RTM_NEWLINK, REQUEST | ACK).raw(&header(index, if on { flag } else { 0 }, flag));
    Socket::open(SockProtocol::NetlinkRoute)?.request(message).map(drop)
}

/// struct ifinfomsg
fn header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&change.to_ne_bytes());
    bytes
}

fn parse(payload: &[u8]) -> Option<Link> {
    let (head, attributes) = payload.split_at_checked(16)?;
    let flags = u32_of(&head[8..12]);
    let kind = attribute(attributes, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
    let statistics = attribute(attributes, IFLA_STATS64).and_then(|all| all.get(RX_DROPPED..)?.first_chunk());
    let xdp = attribute(attributes, IFLA_XDP).and_then(|xdp| attribute(xdp, IFLA_XDP_ATTACHED));
    Some(Link {
        index: u32_of(&head[4..8]),
        name: text_of(attribute(attributes, IFLA_IFNAME)?),
        mac: attribute(attributes, IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
        mtu: netlink::attribute(attributes, IFLA_MTU).map_or(1500, u32_of),
        kind: kind.map(text_of).unwrap_or_default(),
        up: flags & IFF_UP != 0,
        running: flags & IFF_RUNNING != 0,
        promiscuous: flags & IFF_PROMISC != 0,
        all_multicast: flags & IFF_ALLMULTI != 0,
        xdp: xdp.is_some_and(|attached| attached.first().is_some_and(|mode| *mode != 0)),
        dropped: statistics.map_or(0, |bytes| u64::from_ne_bytes(*bytes)),
    })
}

/// In /proc/net/route: interface, destination, gateway, flags, …, mask.
fn v4_default(table: &str, name: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        fields.len() > 7 && fields[0] == name && fields[1] == "00000000" && fields[7] == "00000000"
    })
}

/// In /proc/net/ipv6_route: destination, its prefix length, …, flags, interface. What only refuses does not count.
fn v6_default(table: &str, name: &str) -> bool {
    const RTF_REJECT: u32 = 0x200;
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        fields.len() > 9
            && fields[9] == name
            && fields[1] == "00"
            && fields[0].bytes().all(|b| b == b'0')
            && u32::from_str_radix(fields[8], 16).is_ok_and(|flags| flags & RTF_REJECT == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found_and_others_are_not() {
        let lo = find("lo").unwrap();
        assert_eq!((lo.index, lo.name.as_str(), lo.xdp), (1, "lo", false));
        assert!(find("nonsense0").is_err());
    }

    #[test]
    fn default_routes_are_told_from_others() {
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                  eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n\
                  eth1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        assert!(v4_default(v4, "eth0"));
        assert!(!v4_default(v4, "eth1"));
        let zero = "0".repeat(32);
        let v6 = format!(
            "{zero} 00 {zero} 00 {zero} 00000400 00000001 00000000 00000003     eth0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n"
        );
        assert!(v6_default(&v6, "eth0"));
        assert!(!v6_default(&v6, "lo"));
    }
}
