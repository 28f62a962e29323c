//! Making interfaces' twins in Linux, and taking over what the host had on a port's interface.

use std::collections::HashMap;
use std::fs::File;
use std::io;

use fulcrum_director::Snapshot;
use fulcrum_director::snapshot::InterfaceId;
use fulcrum_model::State;

use crate::host::{self, Ledger};
use crate::ports::Port;

/// Why an interface got no twin.
#[derive(Debug, thiserror::Error)]
#[error("interface {interface}: its exception `{twin}` could not be made: {source}{}", hint(source))]
pub(crate) struct TwinError {
    interface: String,
    twin: String,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(nix::errno::Errno::EBUSY | nix::errno::Errno::EINVAL) => {
            " (an interface of that name is there already; delete it, or give another name)"
        }
        Some(nix::errno::Errno::EPERM) => " (run it as root or with CAP_NET_ADMIN)",
        Some(nix::errno::Errno::ENOENT) => " (the kernel needs its module `tun`)",
        _ => "",
    }
}

/// An interface's twin.
#[derive(Debug)]
pub(crate) struct Twin {
    /// Name of the interface, and of its twin.
    pub(crate) of: String,
    pub(crate) name: String,
    pub(crate) interface: InterfaceId,
    pub(crate) port: u16,
    /// Largest IP packet in bytes.
    pub(crate) mtu: u16,
    pub(crate) file: File,
}

/// The twins of a state's interfaces, before the first snapshot says which numbers these have.
#[derive(Debug, Default)]
pub(crate) struct OpenTwins(Vec<Twin>);

impl OpenTwins {
    /// Makes the twins that `state` wants of interfaces on these ports. What the host had on a port's own interface goes
    /// over to the twin of the untagged one.
    pub(crate) fn open(
        state: &State,
        ports: &mut [Port],
        ledger: &mut Ledger,
    ) -> Result<OpenTwins, TwinError> {
        let mut twins = OpenTwins::default();
        for interface in &state.interfaces {
            let Some(name) = &interface.exception else { continue };
            let Some(number) = ports.iter().position(|port| port.name == interface.port) else { continue };
            let failed = |source| TwinError { interface: interface.name.clone(), twin: name.clone(), source };
            let port = &mut ports[number];
            let file = fulcrum_machine::open_tap(name).map_err(failed)?;
            let index = host::set_up_twin(name, port.mac, interface.mtu).map_err(failed)?;
            tracing::info!(interface = interface.name, exception = name, "open");
            if interface.vlan == 0 {
                let notes = port.move_host_to(name, index, ledger).map_err(failed)?;
                notes.iter().for_each(|note| tracing::info!(port = port.name, "{note}"));
                port.notes.extend(notes);
            }
            twins.0.push(Twin {
                of: interface.name.clone(),
                name: name.clone(),
                interface: 0,
                port: u16::try_from(number).unwrap_or(u16::MAX),
                mtu: interface.mtu,
                file,
            });
        }
        Ok(twins)
    }

    /// Names of interfaces and their twins.
    pub(crate) fn names(&self) -> HashMap<String, String> {
        self.0.iter().map(|twin| (twin.of.clone(), twin.name.clone())).collect()
    }

    /// The twins with the numbers that a snapshot gives their interfaces; these never change.
    pub(crate) fn of(self, snapshot: &Snapshot) -> Vec<Twin> {
        let number = |mut twin: Twin| {
            let place = snapshot.interfaces.iter().position(|place| place.name == twin.of)?;
            twin.interface = InterfaceId::try_from(place).ok()?;
            Some(twin)
        };
        self.0.into_iter().filter_map(number).collect()
    }
}
