//! The values of options: numbers, addresses, ports, and the names that stand for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::state::Protocol;

/// Names of hosts and ports, for reading and for showing them. The model does no I/O: who has `/etc/hosts`
/// and a resolver at hand implements it.
pub trait Names {
    /// The first IPv4 address of a host.
    fn address(&self, host: &str) -> Option<Ipv4Addr>;
    /// The port of a service name such as `http`.
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16>;
    /// The name of a host.
    fn host(&self, address: IpAddr) -> Option<String>;
    /// The service name of a port.
    fn service(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// No names at all: numbers are read and shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numeric;

impl Names for Numeric {
    fn address(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }
    fn port(&self, _: &str, _: Protocol) -> Option<u16> {
        None
    }
    fn host(&self, _: IpAddr) -> Option<String> {
        None
    }
    fn service(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

/// A decimal number within a range, with strtol's leniency in front: blanks and a plus sign.
pub(super) fn number(text: &str, least: u32, most: u32) -> Option<u32> {
    let text = text.trim_start();
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|n| (least..=most).contains(n))
}

/// `host`, `host:port`, `[v6]:port` or `v6`. The port is `None` when none is given.
pub(super) fn host_port(text: &str, protocol: Protocol, names: &dyn Names) -> Option<(IpAddr, Option<u16>)> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once("]:")?;
        let address: Ipv6Addr = address.parse().ok()?;
        return Some((address.into(), Some(port_number(port, protocol, names)?)));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some((address.into(), None));
    }
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let address = dotted(host).or_else(|| if host.is_empty() { None } else { names.address(host) })?;
    match port {
        None => Some((address.into(), None)),
        Some(port) => Some((address.into(), Some(port_number(port, protocol, names)?))),
    }
}

fn port_number(text: &str, protocol: Protocol, names: &dyn Names) -> Option<u16> {
    let number = number(text, 0, 65535).and_then(|n| u16::try_from(n).ok());
    number.or_else(|| if text.is_empty() { None } else { names.port(text, protocol) })
}

/// An IPv4 address in any of the forms of `inet_aton(3)`: `10.1` is 10.0.0.1, `0x0a.1.2.3` is 10.1.2.3.
pub(super) fn dotted(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(part).collect::<Option<_>>()?;
    let (last, bytes) = parts.split_last()?;
    let room = 8 * (4_u32.checked_sub(u32::try_from(bytes.len()).ok()?)?);
    if room == 0 || bytes.iter().any(|b| *b > 255) || u64::from(*last) >= 1 << room {
        return None;
    }
    let high = bytes.iter().enumerate().fold(0, |all, (at, byte)| all | byte << (24 - 8 * at));
    Some(Ipv4Addr::from(high | last))
}

/// A part of a dotted address: decimal, `0x` hexadecimal or `0` octal.
fn part(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    match digits.starts_with('+') {
        true => None,
        false => u32::from_str_radix(digits, radix).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_all_their_forms() {
        for (text, address) in [
            ("10.9.0.100", Some([10, 9, 0, 100])),
            ("10.1", Some([10, 0, 0, 1])),
            ("10.1.258", Some([10, 1, 1, 2])),
            ("0x0a.1.2.3", Some([10, 1, 2, 3])),
            ("010.1.2.3", Some([8, 1, 2, 3])),
            ("24", Some([0, 0, 0, 24])),
            ("4294967295", Some([255; 4])),
            ("4294967296", None),
            ("1.2.3.4.5", None),
            ("256.1.1.1", None),
            ("1.2.3.256", None),
            ("1..2", None),
            ("", None),
            ("1.2.3.+4", None),
            ("a.b", None),
        ] {
            assert_eq!(dotted(text), address.map(Ipv4Addr::from), "{text}");
        }
    }

    #[test]
    fn hosts_with_and_without_ports() {
        let read = |text| host_port(text, Protocol::Tcp, &Numeric).map(|(a, p)| (a.to_string(), p));
        assert_eq!(read("10.9.0.1:80"), Some(("10.9.0.1".into(), Some(80))));
        assert_eq!(read("10.9.0.1: 80"), Some(("10.9.0.1".into(), Some(80))));
        assert_eq!(read("10.9.0.1"), Some(("10.9.0.1".into(), None)));
        assert_eq!(read("fd00::1"), Some(("fd00::1".into(), None)));
        assert_eq!(read("[fd00::1]:80"), Some(("fd00::1".into(), Some(80))));
        for bad in [
            "",
            "80",
            ":80",
            "10.9.0.1:",
            "10.9.0.1:http",
            "10.9.0.1:65536",
            "10.9.0.1:80:90",
            "[fd00::1]",
            "[10.9.0.1]:80",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
