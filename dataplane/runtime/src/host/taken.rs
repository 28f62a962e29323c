//! One Linux interface in the director's hands: prepared, and put back as it was.

use std::collections::BTreeMap;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use serde::{Deserialize, Serialize};

use super::ethtool::Ethtool;
use super::ledger::Ledger;
use super::link::{self, Link};
use super::moved::Moved;
use super::mute::Mute;

/// Merged packets are larger than any frame: whoever takes frames raw must not get them.
const MERGING: &[&str] = &["rx-gro", "rx-gro-hw", "rx-gro-list", "rx-lro", "rx-udp-gro-forwarding"];
/// AF_XDP sees no tag that the device took off.
const TAG_TAKING: &[&str] = &["rx-vlan-hw-parse"];

/// What drives the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    AfXdp,
    AfPacket,
}

/// What an interface was like before, as far as it is put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    pub(crate) name: String,
    pub(crate) index: u32,
    up: bool,
    promiscuous: bool,
    all_multicast: bool,
    xdp: bool,
    /// MAC address and MTU, which are changed as a member of a bond only.
    #[serde(default)]
    mac: Option<[u8; 6]>,
    #[serde(default)]
    mtu: Option<u32>,
    /// Offloads that were switched.
    features: BTreeMap<String, bool>,
    /// Addresses and routes that were moved away.
    #[serde(default)]
    moved: Moved,
}

/// An interface that the director drives. It stays so until [`Taken::give_back`].
#[derive(Debug)]
pub(crate) struct Taken {
    before: Before,
    mute: Option<Mute>,
    /// Held as long as the interface is ours; goes away with the process.
    _claim: UnixListener,
    /// Drops of the kernel until then, where it is the kernel that drops.
    dropped: Option<u64>,
}

impl Taken {
    /// Brings the interface up and switches off what would spoil frames. Gives also what was done, for the operator.
    pub(crate) fn take(
        link: &Link,
        how: Use,
        bonded: bool,
        ledger: &mut Ledger,
    ) -> io::Result<(Taken, Vec<String>)> {
        let claim = claim(link)?;
        let mut unwanted = MERGING.to_vec();
        // A veth keeps its tags as they come; switching there would only be noise.
        if how == Use::AfXdp && link.kind != "veth" {
            unwanted.extend(TAG_TAKING);
        }
        let mut ethtool = Ethtool::open();
        let active = ethtool
            .as_mut()
            .ok()
            .and_then(|ethtool| ethtool.active(link.index, &unwanted).ok())
            .unwrap_or_default();
        let before = Before {
            name: link.name.clone(),
            index: link.index,
            up: link.up,
            promiscuous: link.promiscuous,
            all_multicast: link.all_multicast,
            xdp: link.xdp,
            mac: link.mac.filter(|_| bonded),
            mtu: bonded.then_some(link.mtu),
            features: active.into_iter().map(|name| (name, true)).collect(),
            moved: Moved::default(),
        };
        // First written down, then changed: whatever happens in between is put right at the next start.
        ledger.record(&before)?;
        let mut taken =
            Taken { before, mute: None, _claim: claim, dropped: (how == Use::AfXdp).then_some(link.dropped) };
        match taken.prepare(how, ethtool.ok()) {
            Ok(notes) => Ok((taken, notes)),
            Err(error) => {
                taken.give_back(ledger);
                Err(error)
            }
        }
    }

    fn prepare(&mut self, how: Use, ethtool: Option<Ethtool>) -> io::Result<Vec<String>> {
        let mut notes = Vec::new();
        let Before { name, index, up, all_multicast, features, .. } = &self.before;
        if !up {
            link::set_up(*index, true)?;
            notes.push(format!("{name} was down: brought up"));
        }
        // Neighbours ask for IPv6 addresses by multicast, to groups that the kernel has not joined.
        if !all_multicast && let Err(error) = link::set_all_multicast(*index, true) {
            notes.push(format!(
                "{name} may not take multicast: {error}; who asks for an IPv6 address gets no answer then"
            ));
        }
        if let (Some(mut ethtool), false) = (ethtool, features.is_empty()) {
            let off = features.keys().map(|name| (name.clone(), false)).collect();
            let list = features.keys().cloned().collect::<Vec<_>>().join(", ");
            match ethtool.set(*index, &off) {
                Ok(()) => notes.push(format!("switched off on {name}: {list}")),
                Err(error) => notes.push(format!("{list} of {name} could not be switched off: {error}")),
            }
        }
        if how == Use::AfPacket {
            match Mute::install(name) {
                Ok(mute) => {
                    self.mute = Some(mute);
                    notes.push(format!(
                        "the kernel is kept from answering on {name} (nft table fulcrum-{name})"
                    ));
                }
                Err(error) => notes.push(format!(
                    "the kernel could not be kept from answering on {name} (nftables: {error}): \
                     give {name} no address of its own, and switch off its forwarding"
                )),
            }
        }
        Ok(notes)
    }

    /// Moves what the host has on the interface to another one; gives what was done, for the operator.
    pub(crate) fn move_host_to(
        &mut self,
        name: &str,
        index: u32,
        ledger: &mut Ledger,
    ) -> io::Result<Vec<String>> {
        let moved = Moved::of(self.before.index)?;
        if moved.is_empty() {
            return Ok(Vec::new());
        }
        let before = Before { moved: moved.clone(), ..self.before.clone() };
        ledger.replace(&self.before, &before)?;
        self.before = before;
        moved.take_away()?;
        moved.give_to(index)?;
        Ok(vec![format!("{} of {} moved to {name}", moved.words(), self.before.name)])
    }

    /// What drivers on top of a Linux interface do not tell: whether the link is up, and how many frames the kernel
    /// dropped because AF_XDP's ring was full.
    pub(crate) fn now(&self) -> (bool, u64) {
        match link::find(&self.before.name) {
            Ok(link) if link.index == self.before.index => {
                (link.running, self.dropped.map_or(0, |before| link.dropped.saturating_sub(before)))
            }
            _ => (false, 0),
        }
    }

    /// Puts the interface back as it was; what cannot be put back is logged.
    pub(crate) fn give_back(mut self, ledger: &mut Ledger) {
        self.mute = None;
        restore(&self.before);
        ledger.forget(&self.before);
    }
}

/// One data plane drives an interface at a time: a socket in the network namespace's own space of names says so,
/// without a file that could stay behind.
fn claim(link: &Link) -> io::Result<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("fulcrum/interface/{}", link.index))?;
    UnixListener::bind_addr(&name).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            io::Error::new(io::ErrorKind::AddrInUse, "another data plane drives it; stop that one first")
        }
        _ => error,
    })
}

/// Puts everything back that is not as it was.
pub(crate) fn restore(before: &Before) {
    let name = &before.name;
    // The interface may be gone, or another one may have its name by now.
    let Ok(now) = link::find(name) else { return };
    if now.index != before.index {
        return;
    }
    let complain = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            tracing::warn!("{name}: {what} could not be put back: {error}");
        }
    };
    if now.xdp && !before.xdp {
        complain("the absence of an XDP program", link::detach_xdp(now.index));
    }
    if !before.features.is_empty() {
        let set = Ethtool::open().and_then(|mut ethtool| ethtool.set(now.index, &before.features));
        complain("offloads", set);
    }
    if now.promiscuous != before.promiscuous {
        complain("promiscuous mode", link::set_promiscuous(now.index, before.promiscuous));
    }
    if now.all_multicast != before.all_multicast {
        complain("what multicast it takes", link::set_all_multicast(now.index, before.all_multicast));
    }
    if let Some(mac) = before.mac.filter(|mac| now.mac != Some(*mac)) {
        complain("its MAC address", link::set_mac(now.index, mac));
    }
    if let Some(mtu) = before.mtu.filter(|mtu| now.mtu != *mtu) {
        complain("its MTU", link::set_mtu(now.index, mtu));
    }
    if now.up != before.up {
        complain("its state", link::set_up(now.index, before.up));
    }
    if !before.moved.is_empty() {
        complain("addresses and routes", before.moved.give_to(now.index));
    }
}
