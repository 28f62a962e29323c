//! What a virtual server is known by: an address and port, a mark, or a group of both.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fulcrum_model::{AddressRange, Family};
use ipnet::IpNet;

use crate::draft::Draft;
use crate::keepalived::tree::Node;
use crate::left_out::Place;

/// Services that one line of a group may stand for.
const MOST: u64 = 65_536;

/// One service, whatever its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Port 0: every port.
    Address(IpAddr, u16),
    /// Of a family, where it is said.
    Mark(u32, Option<Family>),
}

/// The groups of a configuration.
#[derive(Debug, Default)]
pub(super) struct Groups(HashMap<String, Vec<Target>>);

impl Groups {
    /// Reads `virtual_server_group NAME { … }`.
    pub(super) fn read(&mut self, draft: &mut Draft, node: &Node) {
        let Some(name) = node.words.get(1) else {
            return draft.leave_out(&node.place, node.text(), "the group has no name");
        };
        let mut targets = Vec::new();
        for entry in &node.block {
            match targets_of(&entry.words) {
                Ok(some) => targets.extend(some),
                Err(why) => draft.leave_out(&entry.place, entry.text(), why),
            }
        }
        self.0.insert(name.clone(), targets);
    }

    /// The services of `virtual_server …`.
    pub(super) fn targets(&self, draft: &mut Draft, place: &Place, words: &[String]) -> Vec<Target> {
        let found = match words {
            [word, name, ..] if word == "group" => {
                self.0.get(name).cloned().ok_or_else(|| format!("there is no virtual_server_group {name}"))
            }
            _ => targets_of(words),
        };
        found.unwrap_or_else(|why| {
            draft.leave_out(place, format!("virtual_server {}", words.join(" ")), why);
            Vec::new()
        })
    }
}

/// `fwmark N [inet|inet6]`, or an address, range or network with a port or none.
fn targets_of(words: &[String]) -> Result<Vec<Target>, String> {
    if let Some("fwmark") = words.first().map(String::as_str) {
        let number = words.get(1).and_then(|text| text.parse().ok()).filter(|mark| *mark != 0);
        let family = match words.get(2).map(String::as_str) {
            None => None,
            Some("inet") => Some(Family::V4),
            Some("inet6") => Some(Family::V6),
            Some(other) => return Err(format!("`{other}` is neither inet nor inet6")),
        };
        return Ok(vec![Target::Mark(number.ok_or("a mark is a number, at least 1")?, family)]);
    }
    let address = words.first().ok_or("an address or a mark is missing")?;
    let port = match words.get(1) {
        None => 0,
        Some(port) => port.parse().map_err(|_| format!("`{port}` is not a port"))?,
    };
    let range = addresses(address).ok_or_else(|| format!("`{address}` is not an address"))?;
    if range.len() > MOST {
        return Err(format!("these are more than {MOST} services: use a mark"));
    }
    Ok(range.iter().map(|address| Target::Address(address, port)).collect())
}

/// `10.0.0.1`, `10.0.0.1-9` (the last number; of IPv6 the last four digits), `10.0.0.1-10.0.1.9`, `10.0.0.0/28`.
pub(super) fn addresses(text: &str) -> Option<AddressRange> {
    if text.contains('/') {
        let net: IpNet = text.parse().ok()?;
        return Some(AddressRange { first: net.network(), last: net.broadcast() });
    }
    let Some((first, last)) = text.split_once('-') else {
        let address = text.parse().ok()?;
        return Some(AddressRange { first: address, last: address });
    };
    let first: IpAddr = first.parse().ok()?;
    let last = match (last.parse::<IpAddr>(), first) {
        (Ok(last), _) => last,
        (Err(_), IpAddr::V4(v4)) => {
            let [a, b, c, _] = v4.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, last.parse().ok()?))
        }
        (Err(_), IpAddr::V6(v6)) => {
            let mut parts = v6.segments();
            parts[7] = u16::from_str_radix(last, 16).ok()?;
            IpAddr::V6(Ipv6Addr::from(parts))
        }
    };
    (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(AddressRange { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_nonsense_is_not() {
        for (text, first, last) in [
            ("10.0.0.3", "10.0.0.3", "10.0.0.3"),
            ("10.0.0.3-10", "10.0.0.3", "10.0.0.10"),
            ("10.0.0.3-10.0.1.2", "10.0.0.3", "10.0.1.2"),
            ("10.0.0.0/30", "10.0.0.0", "10.0.0.3"),
            ("ae00::2-9", "ae00::2", "ae00::9"),
            ("ae00::2-1f", "ae00::2", "ae00::1f"),
        ] {
            let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
            assert_eq!(addresses(text), Some(AddressRange { first, last }), "{text}");
        }
        for text in
            ["", "10.0.0.9-3", "10.0.0.1-ae00::1", "10.0.0.1-300", "10.0.0.0/40", "a.b.c.d", "-", "ae00::2-x"]
        {
            assert_eq!(addresses(text), None, "{text}");
        }
        assert!(targets_of(&["10.0.0.0/8".to_owned(), "80".to_owned()]).unwrap_err().contains("more than"));
    }
}
