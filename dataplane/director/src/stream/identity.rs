//! How a server is told its client's address: in a TCP option (TOA), or in a header before the data (PROXY protocol,
//! versions 1 and 2).

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use fulcrum_packet::ipv4;
use fulcrum_packet::tcp::options::EXPERIMENT_2;

use crate::snapshot::ClientAddress;

/// What precedes every header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY.
const V2_PROXY: u8 = 0x21;

/// The longest of them all: a line of version 1 has up to 107 bytes with its end.
const LONGEST: usize = 107;

/// Bytes on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Text {
    const EMPTY: Text = Text { bytes: [0; LONGEST], len: 0 };

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.push(&address.octets()),
            IpAddr::V6(address) => self.push(&address.octets()),
        }
    }
}

/// The option that tells a client's address and port: kind 254, 8 bytes for IPv4, 20 for IPv6.
pub(crate) fn toa(client: SocketAddr) -> Text {
    let mut option = Text::EMPTY;
    option.push(&[EXPERIMENT_2, toa_len(client.ip()) as u8]);
    option.push(&client.port().to_be_bytes());
    option.push_address(client.ip());
    option
}

/// The length of that option.
pub(crate) const fn toa_len(client: IpAddr) -> usize {
    if client.is_ipv6() { 20 } else { 8 }
}

/// The header for a session between a client and a VIP, whose addresses have one family; `None` when `how` does not
/// put a header before data of this protocol.
pub(crate) fn header(how: ClientAddress, protocol: u8, client: SocketAddr, vip: SocketAddr) -> Option<Text> {
    match how {
        ClientAddress::ProxyV1 if protocol == ipv4::TCP => Some(v1(client, vip)),
        ClientAddress::ProxyV2 if matches!(protocol, ipv4::TCP | ipv4::UDP) => {
            Some(v2(protocol, client, vip))
        }
        _ => None,
    }
}

fn v1(client: SocketAddr, vip: SocketAddr) -> Text {
    let mut line = Text::EMPTY;
    let mut rest = &mut line.bytes[..];
    let family = if client.is_ipv6() { "TCP6" } else { "TCP4" };
    let (src, dst) = (client.ip(), vip.ip());
    // 6 + 4 + 2 * 39 + 2 * 5 + 4 blanks + 2 for the end is 104: it always fits.
    let _ = write!(rest, "PROXY {family} {src} {dst} {} {}\r\n", client.port(), vip.port());
    line.len = LONGEST - rest.len();
    line
}

fn v2(protocol: u8, client: SocketAddr, vip: SocketAddr) -> Text {
    let mut header = Text::EMPTY;
    let stream = if protocol == ipv4::TCP { 1 } else { 2 };
    let (family, length) = if client.is_ipv6() { (0x20, 36) } else { (0x10, 12) };
    header.push(&SIGNATURE);
    header.push(&[V2_PROXY, family | stream, 0, length]);
    header.push_address(client.ip());
    header.push_address(vip.ip());
    header.push(&client.port().to_be_bytes());
    header.push(&vip.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn ends(client: &str, vip: &str) -> (SocketAddr, SocketAddr) {
        (client.parse().unwrap(), vip.parse().unwrap())
    }

    #[test]
    fn toa_is_an_option_of_kind_254() {
        let (v4, v6) = ends("10.0.0.2:40001", "[2001:db8::2]:40001");
        assert_eq!(toa(v4).bytes(), [254, 8, 0x9c, 0x41, 10, 0, 0, 2]);
        let option = toa(v6);
        assert_eq!(option.bytes()[..4], [254, 20, 0x9c, 0x41]);
        assert_eq!(option.bytes()[4..], "2001:db8::2".parse::<Ipv6Addr>().unwrap().octets());
    }

    #[test]
    fn version_1_is_a_line() {
        let line = |client, vip| {
            let (client, vip) = ends(client, vip);
            let header = header(ClientAddress::ProxyV1, ipv4::TCP, client, vip).unwrap();
            String::from_utf8(header.bytes().to_vec()).unwrap()
        };
        assert_eq!(line("10.0.0.2:40001", "10.0.0.100:80"), "PROXY TCP4 10.0.0.2 10.0.0.100 40001 80\r\n");
        let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0";
        let (client, vip) = (format!("[{longest}]:65535"), format!("[{longest}]:65534"));
        assert_eq!(line(&client, &vip), format!("PROXY TCP6 {longest} {longest} 65535 65534\r\n"));
    }

    #[test]
    fn version_2_is_binary_and_knows_datagrams() {
        let (client, vip) = ends("10.0.0.2:40001", "10.0.0.100:80");
        let header_of = |protocol| header(ClientAddress::ProxyV2, protocol, client, vip).unwrap();
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        expected.extend([10, 0, 0, 2, 10, 0, 0, 100, 0x9c, 0x41, 0, 80]);
        assert_eq!(header_of(ipv4::TCP).bytes(), expected);
        expected[13] = 0x12;
        assert_eq!(header_of(ipv4::UDP).bytes(), expected);
        let (client, vip) = ends("[2001:db8::2]:40001", "[2001:db8::100]:80");
        let header = header(ClientAddress::ProxyV2, ipv4::TCP, client, vip).unwrap();
        assert_eq!((header.bytes().len(), &header.bytes()[12..16]), (52, &[0x21, 0x21, 0, 36][..]));
    }

    #[test]
    fn not_everything_has_a_header() {
        let (client, vip) = ends("10.0.0.2:40001", "10.0.0.100:80");
        for (how, protocol) in [
            (ClientAddress::None, ipv4::TCP),
            (ClientAddress::Toa, ipv4::TCP),
            (ClientAddress::ProxyV1, ipv4::UDP),
            (ClientAddress::ProxyV2, 132),
        ] {
            assert!(header(how, protocol, client, vip).is_none(), "{how:?} {protocol}");
        }
    }
}
