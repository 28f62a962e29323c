//! What `fulcrum-lab` can be told to be, one file each.

pub(crate) mod associations;
pub(crate) mod connections;
pub(crate) mod datagrams;
pub(crate) mod decap;
pub(crate) mod demo;
pub(crate) mod pieces;
pub(crate) mod soak;
pub(crate) mod trunk;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What fails says so in words; where in the code it did matters to nobody here.
pub(crate) fn complain_in_words() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        eprintln!("\n{}", text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("something went wrong"));
    }));
}

/// Any address of a family.
pub(crate) fn any(is_ipv4: bool) -> IpAddr {
    if is_ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Six bytes written `02:00:00:00:01:01`.
pub(crate) fn parse_mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| format!("`{text}` is no MAC address"))
}

/// Pairs written `VLAN:DEVICE`.
pub(crate) fn parse_access(pairs: &[String]) -> Result<Vec<(u16, String)>, String> {
    let one = |pair: &String| {
        let (vlan, device) = pair.split_once(':')?;
        Some((vlan.parse().ok()?, device.to_owned()))
    };
    pairs.iter().map(|pair| one(pair).ok_or_else(|| format!("`{pair}` is not VLAN:DEVICE"))).collect()
}
