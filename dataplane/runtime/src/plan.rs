//! What is known of configured ports before DPDK starts, and without touching a device.

use fulcrum_model as model;
use fulcrum_model::BondMode;

use crate::device::Device;
use crate::host;

/// Room for frames unless an interface wants larger ones: what AF_XDP expects.
const ROOM: u16 = 2048;
/// Ethernet header and two VLAN tags.
pub(crate) const LAYER2: u32 = 22;
/// What the loopback interface and the like claim is more than any frame has.
const LARGEST_MTU: u16 = 9200;
/// Of Ethernet. // RFC 894
pub(crate) const STANDARD_MTU: u16 = 1500;
/// AF_PACKET's own header before each frame in its ring, generously.
const AF_PACKET_HEADER: u32 = 80;

/// Why a configured port cannot be one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("port {port}: there is no PCI device, DPDK device or Linux interface called `{device}` here")]
    NoSuchDevice { port: String, device: String },
    #[error(
        "port {port}: {device} leads out of this host (a default route leaves by it); the director would cut the \
         host off. Give it an interface of its own, or the [[interface]] on it an `exception`, which takes over the \
         host's addresses and routes"
    )]
    WayOut { port: String, device: String },
    #[error(
        "port {port}: PCI device {device} is not for DPDK: bind it to vfio-pci (dpdk-devbind.py --bind=vfio-pci {device})"
    )]
    NotBound { port: String, device: String },
    #[error("ports {first} and {second} are the same device, {device}")]
    Twice { first: String, second: String, device: String },
    #[error("port {port}: {device} is two of its members")]
    TwiceMember { port: String, device: String },
    #[error(
        "port {port}: {device} cannot be in an active-backup bond, because DPDK's AF_XDP driver does not change MAC \
         addresses; name its interface alone"
    )]
    NoBackup { port: String, device: String },
}

/// A configured port, its devices looked at.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) config: model::Port,
    /// One, or those of a bond.
    pub(crate) on: Vec<Footing>,
    /// Largest IP packet in bytes: the Linux interfaces', else that of the configured interfaces.
    pub(crate) mtu: u16,
}

/// A device that a port needs.
#[derive(Debug)]
pub(crate) struct Footing {
    /// As configured.
    pub(crate) text: String,
    pub(crate) device: Device,
    /// The Linux interface that it stands on.
    pub(crate) link: Option<host::Link>,
}

impl Plan {
    /// Looks at the devices of a configuration without touching them.
    pub(crate) fn make(state: &model::State) -> Result<Vec<Plan>, PlanError> {
        let plan = |port| Plan::of(port, &state.interfaces);
        let plans = state.ports.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
        let all: Vec<_> =
            plans.iter().flat_map(|plan| plan.on.iter().map(move |on| (&plan.config.name, on))).collect();
        for (nth, (port, second)) in all.iter().enumerate() {
            let Some((first, _)) = all[..nth].iter().find(|(_, first)| first.is(second)) else { continue };
            let (port, device) = ((*port).clone(), second.device.to_string());
            return Err(match **first == port {
                true => PlanError::TwiceMember { port, device },
                false => PlanError::Twice { first: (*first).clone(), second: port, device },
            });
        }
        Ok(plans)
    }

    fn of(config: &model::Port, interfaces: &[model::Interface]) -> Result<Plan, PlanError> {
        let twin = interfaces.iter().any(|i| i.port == config.name && i.vlan == 0 && i.exception.is_some());
        let footing = |device: &String| Footing::of(&config.name, device, twin);
        let on = config.devices().iter().map(footing).collect::<Result<Vec<_>, _>>()?;
        let backup = matches!(&config.bond, Some(bond) if matches!(bond.mode, BondMode::ActiveBackup { .. }));
        let is_xdp =
            |on: &&Footing| matches!(&on.device, Device::Virtual { driver, .. } if driver == "net_af_xdp");
        if let Some(on) = on.iter().find(is_xdp).filter(|_| backup) {
            return Err(PlanError::NoBackup { port: config.name.clone(), device: on.text.clone() });
        }
        let wanted = interfaces.iter().filter(|interface| interface.port == config.name).map(|i| i.mtu).max();
        let links = on.iter().filter_map(|on| on.link.as_ref());
        let mtu = match links.map(|link| link.mtu).min() {
            Some(mtu) => u16::try_from(mtu).unwrap_or(u16::MAX).min(LARGEST_MTU),
            None => wanted.unwrap_or(0).max(STANDARD_MTU),
        };
        Ok(Plan { config: config.clone(), on, mtu })
    }

    /// Queue pairs of its devices, of which each worker has one, but none fewer than it needs.
    pub(crate) fn queues(&self, workers: usize) -> usize {
        self.on.iter().map(|on| on.queues().max(workers)).sum()
    }

    /// MiB that its driver takes beside frames.
    pub(crate) fn driver_mb(&self, workers: usize) -> usize {
        match self.config.bond.as_ref().map(|bond| &bond.mode) {
            // A frame of LACP for every place in a member's transmit queues.
            Some(BondMode::Lacp { .. }) => self.on.len() * (1 + workers),
            _ => 0,
        }
    }

    /// The port's name and the folders of its devices in /sys, where the kernel knows them.
    pub(crate) fn folders(&self) -> impl Iterator<Item = (String, String)> {
        self.on.iter().filter_map(|on| Some((self.config.name.clone(), on.folder()?)))
    }

    /// The addresses of its PCI devices.
    pub(crate) fn pci(&self) -> impl Iterator<Item = &str> {
        self.on.iter().filter_map(|on| match &on.device {
            Device::Pci(address) => Some(address.as_str()),
            _ => None,
        })
    }
}

impl Footing {
    fn of(port: &str, text: &str, twin: bool) -> Result<Footing, PlanError> {
        let port = port.to_owned();
        let device = Device::parse(text);
        let link = match &device {
            Device::Interface(name) | Device::Virtual { interface: Some(name), .. } => match host::find(name)
            {
                Ok(link) => Some(link),
                Err(_) => return Err(PlanError::NoSuchDevice { port, device: name.clone() }),
            },
            Device::Virtual { .. } => None,
            Device::Pci(address) => {
                bound(address).map_err(|known| {
                    let (port, device) = (port.clone(), address.clone());
                    if known {
                        PlanError::NotBound { port, device }
                    } else {
                        PlanError::NoSuchDevice { port, device }
                    }
                })?;
                None
            }
        };
        if let Some(link) = link.as_ref().filter(|link| !twin && host::carries_default_route(&link.name)) {
            return Err(PlanError::WayOut { port, device: link.name.clone() });
        }
        Ok(Footing { text: text.to_owned(), device, link })
    }

    fn is(&self, other: &Footing) -> bool {
        match (&self.link, &other.link) {
            (Some(first), Some(second)) => first.index == second.index,
            _ => self.device == other.device,
        }
    }

    /// Queue pairs that the device cannot do without.
    fn queues(&self) -> usize {
        let queues = self.link.as_ref().map_or(1, |link| host::receive_queues(link.index));
        usize::try_from(queues).unwrap_or(1)
    }

    fn folder(&self) -> Option<String> {
        match (&self.device, &self.link) {
            (Device::Pci(address), _) => Some(format!("/sys/bus/pci/devices/{address}")),
            (_, Some(link)) => Some(format!("/sys/class/net/{}/device", link.name)),
            _ => None,
        }
    }
}

/// What the data plane does before it is programmed: it brings the host what is not the director's.
pub(crate) fn before_programmed(state: &model::State) -> model::State {
    let has_twin = |interface: &&model::Interface| interface.exception.is_some();
    let bare = |interface: &model::Interface| model::Interface { addresses: Vec::new(), ..interface.clone() };
    model::State {
        ports: state.ports.clone(),
        interfaces: state.interfaces.iter().filter(has_twin).map(bare).collect(),
        exception: state.exception.clone(),
        ..model::State::default()
    }
}

/// Whether DPDK can take a PCI device; if not, whether there is one.
fn bound(address: &str) -> Result<(), bool> {
    let folder = format!("/sys/bus/pci/devices/{address}");
    if !std::path::Path::new(&folder).exists() {
        return Err(false);
    }
    let driver = std::fs::read_link(format!("{folder}/driver")).ok();
    let driver = driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    // The last three share their device with the kernel's driver.
    const FIT: [&str; 6] = ["vfio-pci", "igb_uio", "uio_pci_generic", "mlx4_core", "mlx5_core", "mana"];
    if driver.is_some_and(|driver| FIT.contains(&driver.as_str())) { Ok(()) } else { Err(true) }
}

/// Room that frames of these ports need, in bytes.
pub(crate) fn room(plans: &[Plan]) -> u16 {
    plans.iter().map(|plan| slot(plan.mtu)).max().unwrap_or(ROOM)
}

/// A place in AF_PACKET's ring for packets of `mtu` bytes, and the room for its content in a pool.
pub(crate) fn slot(mtu: u16) -> u16 {
    let largest = (u32::from(mtu) + LAYER2 + AF_PACKET_HEADER).next_multiple_of(1024);
    u16::try_from(largest).unwrap_or(u16::MAX).max(ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, device: &str) -> model::Port {
        model::Port {
            name: name.into(),
            device: device.into(),
            bond: None,
            mac: None,
            steering: Default::default(),
        }
    }

    fn state(ports: &[(&str, &str)]) -> model::State {
        let ports = ports.iter().map(|(name, device)| port(name, device)).collect();
        model::State { ports, ..model::State::default() }
    }

    fn refusal(ports: &[(&str, &str)]) -> String {
        Plan::make(&state(ports)).unwrap_err().to_string()
    }

    #[test]
    fn devices_that_are_not_there_or_there_twice_are_refused() {
        assert_eq!(
            refusal(&[("wan", "nonsense0")]),
            "port wan: there is no PCI device, DPDK device or Linux interface called `nonsense0` here"
        );
        assert!(refusal(&[("wan", "0000:ff:1f.7")]).contains("called `0000:ff:1f.7`"));
        assert_eq!(
            refusal(&[("a", "net_null0"), ("b", "net_null0")]),
            "ports a and b are the same device, net_null0"
        );
        let lo = refusal(&[("a", "lo"), ("b", "net_af_packet0,iface=lo")]);
        assert!(lo.contains("ports a and b are the same device"), "{lo}");
    }

    #[test]
    fn members_of_a_bond_are_devices_too() {
        let bond = |mode: BondMode, members: &[&str]| {
            let members = members.iter().map(|&member| member.to_owned()).collect();
            let mut state = state(&[("a", ""), ("b", "net_null0")]);
            state.ports[0].bond = Some(model::Bond { mode, members });
            Plan::make(&state).map_err(|error| error.to_string())
        };
        let backup = || BondMode::ActiveBackup { primary: None };
        let lacp = || BondMode::Lacp { hash: Default::default() };
        let twice = bond(backup(), &["lo", "net_af_packet0,iface=lo"]).unwrap_err();
        assert_eq!(twice, "port a: net_af_packet0,iface=lo is two of its members");
        let twice = bond(lacp(), &["lo", "net_null0"]).unwrap_err();
        assert_eq!(twice, "ports a and b are the same device, net_null0");
        let xdp = bond(backup(), &["net_af_xdp0,iface=lo"]).unwrap_err();
        assert!(xdp.starts_with("port a: net_af_xdp0,iface=lo cannot be in an active-backup bond"), "{xdp}");
        let plans = bond(lacp(), &["lo", "net_null1"]).unwrap();
        assert_eq!((plans[0].on.len(), plans[0].driver_mb(2), plans[1].driver_mb(2)), (2, 6, 0));
        assert!(plans[0].queues(4) >= 8, "each member has queues of its own");
    }

    #[test]
    fn room_is_two_kilobytes_unless_more_is_wanted() {
        let mut state = state(&[("a", "net_null0"), ("b", "net_null1")]);
        assert_eq!(room(&Plan::make(&state).unwrap()), 2048);
        state.interfaces.push(model::Interface {
            name: "jumbo".into(),
            port: "b".into(),
            vlan: 0,
            mtu: 9000,
            addresses: Vec::new(),
            mss: None,
            exception: None,
        });
        assert_eq!(room(&Plan::make(&state).unwrap()), 9216);
        state.ports[0].device = "lo".into();
        assert_eq!(room(&Plan::make(&state).unwrap()), 10240, "lo claims 65536 bytes");
    }
}
