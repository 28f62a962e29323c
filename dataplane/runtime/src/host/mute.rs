//! Keeps the kernel from answering or forwarding what it sees on an interface that the director drives by
//! AF_PACKET: a netdev table whose ingress chain drops everything, after packet sockets have had their copy.

use std::io;

use nix::sys::socket::SockProtocol;

use super::netlink::{ACK, CREATE, Message, REQUEST, Socket};

// linux/netfilter/nfnetlink.h, nf_tables.h
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const FAMILY_UNSPEC: u8 = 0;
const FAMILY_NETDEV: u8 = 5;
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_OWNER: u32 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const INGRESS: u32 = 0;
const DROP: u32 = 0;

/// The table. It belongs to its socket: the kernel removes it when this is dropped, or the process dies.
#[derive(Debug)]
pub(crate) struct Mute {
    _socket: Socket,
}

impl Mute {
    /// Drops what comes in by `interface` before the kernel's stack sees it.
    pub(crate) fn install(interface: &str) -> io::Result<Mute> {
        let mut socket = Socket::open(SockProtocol::NetlinkNetFilter)?;
        let table = format!("fulcrum-{interface}");
        socket.batch(vec![
            Message::new(BATCH_BEGIN, REQUEST).raw(&family(FAMILY_UNSPEC, SUBSYSTEM)),
            Message::new(NEW_TABLE, REQUEST | ACK | CREATE)
                .raw(&family(FAMILY_NETDEV, 0))
                .text(TABLE_NAME, &table)
                .attribute(TABLE_FLAGS, &TABLE_OWNER.to_be_bytes()),
            Message::new(NEW_CHAIN, REQUEST | ACK | CREATE)
                .raw(&family(FAMILY_NETDEV, 0))
                .text(CHAIN_TABLE, &table)
                .text(CHAIN_NAME, "ingress")
                .nested(CHAIN_HOOK, |hook| {
                    hook.attribute(HOOK_NUMBER, &INGRESS.to_be_bytes())
                        .attribute(HOOK_PRIORITY, &i32::MIN.to_be_bytes())
                        .text(HOOK_DEVICE, interface)
                })
                .attribute(CHAIN_POLICY, &DROP.to_be_bytes())
                .text(CHAIN_TYPE, "filter"),
            Message::new(BATCH_END, REQUEST).raw(&family(FAMILY_UNSPEC, SUBSYSTEM)),
        ])?;
        Ok(Mute { _socket: socket })
    }
}

/// struct nfgenmsg
fn family(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}
