//! Offloads of Linux interfaces, and how many queues they have (ethtool's netlink interface).

use std::collections::BTreeMap;
use std::io;

use nix::sys::socket::SockProtocol;

use super::netlink::{ACK, Message, REQUEST, Socket, attribute, attributes, text_of, u16_of, u32_of};

// linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// linux/ethtool_netlink.h
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const CHANNELS_GET: u8 = 17;
const HEADER: u16 = 1;
const HEADER_DEV_INDEX: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;
const CHANNELS_RX_COUNT: u16 = 6;
const CHANNELS_COMBINED_COUNT: u16 = 9;

/// Asks about offloads and changes them.
#[derive(Debug)]
pub(crate) struct Ethtool {
    socket: Socket,
    family: u16,
}

impl Ethtool {
    pub(crate) fn open() -> io::Result<Ethtool> {
        let mut socket = Socket::open(SockProtocol::NetlinkGeneric)?;
        let question = Message::new(GENL_ID_CTRL, REQUEST | ACK)
            .raw(&[CTRL_CMD_GETFAMILY, 1, 0, 0])
            .text(CTRL_ATTR_FAMILY_NAME, "ethtool");
        let answer = socket.request(question)?;
        let family = answer.first().and_then(|payload| attribute(payload.get(4..)?, CTRL_ATTR_FAMILY_ID));
        let family = u16_of(family.ok_or(io::ErrorKind::Unsupported)?);
        Ok(Ethtool { socket, family })
    }

    /// Which of `names` are on. Names that the kernel does not know are off.
    pub(crate) fn active(&mut self, index: u32, names: &[&str]) -> io::Result<Vec<String>> {
        let question = self.message(FEATURES_GET, index);
        let answer = self.socket.request(question)?;
        let bits = answer
            .first()
            .and_then(|payload| attribute(attribute(payload.get(4..)?, FEATURES_ACTIVE)?, BITSET_BITS))
            .unwrap_or_default();
        let on = attributes(bits).filter_map(|(_, bit)| attribute(bit, BIT_NAME)).map(text_of);
        Ok(on.filter(|name| names.contains(&name.as_str())).collect())
    }

    /// Switches offloads on or off; which of them then really are as wanted, the kernel may see otherwise.
    pub(crate) fn set(&mut self, index: u32, features: &BTreeMap<String, bool>) -> io::Result<()> {
        let message = self.message(FEATURES_SET, index).nested(FEATURES_WANTED, |set| {
            set.nested(BITSET_BITS, |bits| {
                features.iter().fold(bits, |bits, (name, on)| {
                    bits.nested(BITS_BIT, |bit| {
                        let bit = bit.text(BIT_NAME, name);
                        if *on { bit.attribute(BIT_VALUE, &[]) } else { bit }
                    })
                })
            })
        });
        self.socket.request(message).map(drop)
    }

    /// Receive queues that the device uses now; 1 where it does not say.
    pub(crate) fn receive_queues(&mut self, index: u32) -> u32 {
        let question = self.message(CHANNELS_GET, index);
        let Ok(answer) = self.socket.request(question) else { return 1 };
        let count = |kind| {
            let payload = answer.first()?;
            attribute(payload.get(4..)?, kind).map(u32_of)
        };
        count(CHANNELS_COMBINED_COUNT).or_else(|| count(CHANNELS_RX_COUNT)).unwrap_or(1).max(1)
    }

    fn message(&self, command: u8, index: u32) -> Message {
        Message::new(self.family, REQUEST | ACK)
            .raw(&[command, 1, 0, 0])
            .nested(HEADER, |header| header.attribute(HEADER_DEV_INDEX, &index.to_ne_bytes()))
    }
}
