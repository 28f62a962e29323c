//! What the host has on an interface: addresses and routes, moved to another one and back.

use std::io;

use nix::sys::socket::SockProtocol;
use serde::{Deserialize, Serialize};

use super::netlink::{ACK, CREATE, DUMP, Message, REPLACE, REQUEST, Socket, attribute, attributes, u32_of};

// linux/rtnetlink.h
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;
const ROUTE_TABLE_LOCAL: u8 = 255;
const BY_KERNEL: u8 = 2;
const UNICAST: u8 = 1;
const ROUTE_OIF: u16 = 4;
const ROUTE_MULTIPATH: u16 = 9;
const ROUTE_CACHE: u16 = 12;
// linux/if_addr.h
const ADDRESS_LABEL: u16 = 3;
const ADDRESS_CACHE: u16 = 6;
const ADDRESS_FLAGS: u16 = 8;
const PERMANENT: u8 = 0x80;
const NO_DETECTION: u8 = 0x02;
const SCOPE_LINK: u8 = 253;
const FAMILY_V6: u8 = 10;
/// Length of struct ifaddrmsg and of struct rtmsg.
const ADDRESS_HEADER: usize = 8;
const ROUTE_HEADER: usize = 12;

/// Addresses and routes as the kernel tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    addresses: Vec<Vec<u8>>,
    routes: Vec<Vec<u8>>,
}

impl Moved {
    /// What an interface has now, but for what the kernel gives every interface by itself.
    pub(crate) fn of(index: u32) -> io::Result<Moved> {
        let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
        let dump = |kind, length: usize| Message::new(kind, REQUEST | ACK | DUMP).raw(&vec![0; length]);
        let addresses = socket.request(dump(GET_ADDRESS, ADDRESS_HEADER))?;
        let routes = socket.request(dump(GET_ROUTE, ROUTE_HEADER))?;
        let its_address = |payload: &Vec<u8>| {
            payload.len() >= ADDRESS_HEADER
                && u32_of(&payload[4..8]) == index
                && !(payload[0] == FAMILY_V6 && payload[3] == SCOPE_LINK)
        };
        let its_route = |payload: &Vec<u8>| {
            let Some(attributes) = payload.get(ROUTE_HEADER..) else { return false };
            payload[4] != ROUTE_TABLE_LOCAL
                && payload[5] != BY_KERNEL
                && payload[7] == UNICAST
                && attribute(attributes, ROUTE_MULTIPATH).is_none()
                && attribute(attributes, ROUTE_OIF).is_some_and(|oif| u32_of(oif) == index)
        };
        let mut routes: Vec<_> = routes.into_iter().filter(its_route).collect();
        // A gateway has to be reachable when its route comes: routes without one go first.
        routes.sort_by_key(|payload| has_gateway(payload));
        Ok(Moved { addresses: addresses.into_iter().filter(its_address).collect(), routes })
    }

    /// Whether there is nothing to move.
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.routes.is_empty()
    }

    /// How many addresses and routes there are, in words.
    pub(crate) fn words(&self) -> String {
        let count = |n: usize, one, many| format!("{n} {}", if n == 1 { one } else { many });
        let addresses = count(self.addresses.len(), "address", "addresses");
        format!("{addresses} and {}", count(self.routes.len(), "route", "routes"))
    }

    /// Takes all of it from the interface that has it.
    pub(crate) fn take_away(&self) -> io::Result<()> {
        let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
        for payload in self.routes.iter().rev() {
            gone(socket.request(Message::new(DELETE_ROUTE, REQUEST | ACK).raw(payload)))?;
        }
        for payload in self.addresses.iter().rev() {
            gone(socket.request(Message::new(DELETE_ADDRESS, REQUEST | ACK).raw(payload)))?;
        }
        Ok(())
    }

    /// Gives all of it to an interface; the first thing that it did not take is the error, after the rest was given.
    pub(crate) fn give_to(&self, index: u32) -> io::Result<()> {
        let mut socket = Socket::open(SockProtocol::NetlinkRoute)?;
        let mut result = Ok(());
        let new = |kind| Message::new(kind, REQUEST | ACK | CREATE | REPLACE);
        for payload in self.addresses.iter().filter(|payload| payload.len() >= ADDRESS_HEADER) {
            let mut header = payload[..ADDRESS_HEADER].to_vec();
            // Nobody else took it in the meantime.
            header[2] = header[2] & PERMANENT | NO_DETECTION;
            header[4..8].copy_from_slice(&index.to_ne_bytes());
            let but = [ADDRESS_LABEL, ADDRESS_CACHE, ADDRESS_FLAGS];
            let message = copy_attributes(new(NEW_ADDRESS).raw(&header), &payload[ADDRESS_HEADER..], &but);
            result = result.and(socket.request(message).map(drop));
        }
        for payload in self.routes.iter().filter(|payload| payload.len() >= ROUTE_HEADER) {
            let but = [ROUTE_OIF, ROUTE_CACHE];
            let mut header = payload[..ROUTE_HEADER].to_vec();
            // Flags are what became of it, such as that its link is down.
            header[8..12].fill(0);
            let message = copy_attributes(new(NEW_ROUTE).raw(&header), &payload[ROUTE_HEADER..], &but);
            let message = message.attribute(ROUTE_OIF, &index.to_ne_bytes());
            result = result.and(socket.request(message).map(drop));
        }
        result
    }
}

/// What is not there any more need not be taken away.
fn gone(result: io::Result<Vec<Vec<u8>>>) -> io::Result<()> {
    use nix::errno::Errno::{EADDRNOTAVAIL, ENODEV, ESRCH};
    match result {
        Err(error)
            if error.raw_os_error().is_some_and(|code| {
                [EADDRNOTAVAIL, ENODEV, ESRCH].map(|errno| errno as i32).contains(&code)
            }) =>
        {
            Ok(())
        }
        result => result.map(drop),
    }
}

fn has_gateway(payload: &[u8]) -> bool {
    const GATEWAY: u16 = 5;
    const VIA: u16 = 18;
    let attributes = payload.get(ROUTE_HEADER..).unwrap_or_default();
    attribute(attributes, GATEWAY).or(attribute(attributes, VIA)).is_some()
}

fn copy_attributes(message: Message, from: &[u8], but: &[u16]) -> Message {
    attributes(from)
        .filter(|(kind, _)| !but.contains(kind))
        .fold(message, |message, (kind, value)| message.attribute(kind, value))
}
