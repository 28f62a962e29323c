//! The addresses that the host has, watched: packets to them are its own.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nix::sys::socket::SockProtocol;

use super::link;
use super::netlink::{ACK, DUMP, Message, REQUEST, Socket, attribute, u32_of};

// linux/rtnetlink.h, linux/if_addr.h
const GET_ADDRESS: u16 = 22;
const HEADER: usize = 8;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
/// Groups of changes to links and addresses.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Without a change, how long until all is looked at again.
const PERIOD: Duration = Duration::from_secs(5);

/// Addresses of the host, with the twin that has them; `None` where the loopback or a dummy interface does.
pub(crate) type Addresses = BTreeMap<IpAddr, Option<String>>;

/// Tells `tell` what addresses the host has on the twins of these names, on loopback and dummy interfaces: now, and
/// whenever that changes, until `tell` says that it is enough.
pub(crate) fn watch(
    twins: Vec<String>,
    mut tell: impl FnMut(Addresses) -> bool + Send + 'static,
) -> io::Result<()> {
    let mut changes = Socket::listening(SockProtocol::NetlinkRoute, GROUPS, PERIOD)?;
    let work = move || {
        let mut last = None;
        loop {
            match all(&twins) {
                Ok(now) if last.as_ref() != Some(&now) => {
                    if !tell(now.clone()) {
                        return;
                    }
                    last = Some(now);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!("the host's addresses are not to be had: {error}"),
            }
            if let Err(error) = changes.wait() {
                tracing::debug!("changes of the host's addresses: {error}");
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    };
    std::thread::Builder::new().name("fulcrum-address".to_owned()).spawn(work).map(drop)
}

fn all(twins: &[String]) -> io::Result<Addresses> {
    let links = link::all()?;
    let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
    let dump = Message::new(GET_ADDRESS, REQUEST | ACK | DUMP).raw(&[0; HEADER]);
    let mut found = Addresses::new();
    for payload in socket.request(dump)? {
        let Some((header, attributes)) = payload.split_at_checked(HEADER) else { continue };
        let index = u32_of(&header[4..8]);
        let Some(link) = links.iter().find(|link| link.index == index) else { continue };
        let twin = twins.contains(&link.name).then(|| link.name.clone());
        let value = attribute(attributes, LOCAL).or_else(|| attribute(attributes, ADDRESS));
        let Some(address) = value.and_then(address_of) else { continue };
        let elsewhere = (link.name == "lo" || link.kind == "dummy") && !is_of_link(address);
        if address.is_loopback() || address.is_unspecified() || twin.is_none() && !elsewhere {
            continue;
        }
        let holder = found.entry(address).or_insert(None);
        *holder = twin.or(holder.take());
    }
    Ok(found)
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    v4().or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

fn is_of_link(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
