//! What the configuration calls a device: a PCI address, one of DPDK's virtual devices, or a Linux interface.

use std::fmt;

/// A device by the kind of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Device {
    /// A PCI address with its domain.
    Pci(String),
    /// A vdev string.
    Virtual {
        /// The whole string.
        text: String,
        /// Name of the driver, without the number.
        driver: String,
        /// The Linux interface that an AF_PACKET or AF_XDP device stands on.
        interface: Option<String>,
    },
    /// Name of a Linux interface.
    Interface(String),
}

impl Device {
    /// Tells the kinds apart; every text is some device's name.
    pub(crate) fn parse(text: &str) -> Device {
        if let Some(address) = pci(text) {
            return Device::Pci(address);
        }
        let name = text.split(',').next().unwrap_or(text);
        let driver = name.trim_end_matches(|c: char| c.is_ascii_digit());
        if driver.starts_with("net_") || driver == "virtio_user" {
            let value = |key: &str| {
                let pairs = text.split(',').skip(1).filter_map(|pair| pair.split_once('='));
                pairs.filter(|(k, _)| *k == key).map(|(_, v)| v.to_owned()).next()
            };
            let interface =
                if matches!(driver, "net_af_packet" | "net_af_xdp") { value("iface") } else { None };
            return Device::Virtual { text: text.to_owned(), driver: driver.to_owned(), interface };
        }
        Device::Interface(text.to_owned())
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Device::Pci(text) | Device::Virtual { text, .. } | Device::Interface(text) => text,
        })
    }
}

/// `0000:03:00.0` or `03:00.0`, with the domain.
fn pci(text: &str) -> Option<String> {
    let is_hex = |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit());
    let (rest, function) = text.split_once('.')?;
    let parts: Vec<_> = rest.split(':').collect();
    let (domain, bus, slot) = match parts[..] {
        [domain, bus, slot] => (domain, bus, slot),
        [bus, slot] => ("0000", bus, slot),
        _ => return None,
    };
    (is_hex(domain, 4) && is_hex(bus, 2) && is_hex(slot, 2) && is_hex(function, 1))
        .then(|| format!("{domain}:{bus}:{slot}.{function}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(Device::parse("0000:03:00.1"), Device::Pci("0000:03:00.1".into()));
        assert_eq!(Device::parse("af:00.0"), Device::Pci("0000:af:00.0".into()));
        assert_eq!(Device::parse("veth-wan"), Device::Interface("veth-wan".into()));
        assert_eq!(Device::parse("eth0.100"), Device::Interface("eth0.100".into()));
        let tap = Device::Virtual { text: "net_tap0".into(), driver: "net_tap".into(), interface: None };
        assert_eq!(Device::parse("net_tap0"), tap);
        let text = "net_af_packet1,iface=veth0,qpairs=2";
        assert_eq!(
            Device::parse(text),
            Device::Virtual {
                text: text.into(),
                driver: "net_af_packet".into(),
                interface: Some("veth0".into())
            }
        );
        assert!(matches!(Device::parse("net_tap1,iface=foo"), Device::Virtual { interface: None, .. }));
    }
}
