//! Just enough netlink: messages with attributes, sent and answered on one socket.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use std::time::Duration;

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt,
    socket,
};
use nix::sys::time::TimeVal;

// linux/netlink.h
pub(crate) const REQUEST: u16 = 0x01;
pub(crate) const ACK: u16 = 0x04;
pub(crate) const REPLACE: u16 = 0x100;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x400;
const NESTED: u16 = 0x8000;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;

/// A message under construction.
#[derive(Debug)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// A message of type `kind`; length and sequence are filled in when it is sent.
    pub(crate) fn new(kind: u16, flags: u16) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Message(bytes)
    }

    /// Adds bytes as they are, such as the family's own header.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Message {
        self.0.extend_from_slice(bytes);
        self.pad();
        self
    }

    /// Adds an attribute.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.pad();
        self
    }

    /// Adds a text attribute, with the zero byte at its end.
    pub(crate) fn text(self, kind: u16, value: &str) -> Message {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// Adds an attribute that holds those which `fill` adds.
    pub(crate) fn nested(mut self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Message {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        let mut filled = fill(self);
        let length = u16::try_from(filled.0.len() - start).unwrap_or(u16::MAX);
        filled.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        filled.0[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        filled
    }

    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn wants_ack(&self) -> bool {
        u16::from_ne_bytes([self.0[6], self.0[7]]) & ACK != 0
    }
}

/// A netlink socket. What the kernel ties to it goes away when it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    pub(crate) fn open(protocol: SockProtocol) -> io::Result<Socket> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Socket { fd, sequence: 0 })
    }

    /// A socket that hears of changes in `groups`, or gives up after `patience`.
    pub(crate) fn listening(protocol: SockProtocol, groups: u32, patience: Duration) -> io::Result<Socket> {
        let socket = Socket::open(protocol)?;
        let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
        setsockopt(&socket.fd, ReceiveTimeout, &TimeVal::new(seconds, 0))?;
        bind(socket.fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(socket)
    }

    /// Waits for a change, whatever it is; also returns without one in time, or when some were lost.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        use nix::errno::Errno::{EAGAIN, EINTR, ENOBUFS};
        let mut buffer = [0; 4096];
        match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(_) | Err(EAGAIN | EINTR | ENOBUFS) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends one message that wants an acknowledgement; gives the payloads of what came before it.
    pub(crate) fn request(&mut self, message: Message) -> io::Result<Vec<Vec<u8>>> {
        self.batch(vec![message])
    }

    /// Sends messages as one datagram and waits for the acknowledgement of each that wants one.
    pub(crate) fn batch(&mut self, messages: Vec<Message>) -> io::Result<Vec<Vec<u8>>> {
        let mut datagram = Vec::new();
        let mut awaited = Vec::new();
        for mut message in messages {
            self.sequence += 1;
            let length = u32::try_from(message.0.len()).unwrap_or(u32::MAX);
            message.0[0..4].copy_from_slice(&length.to_ne_bytes());
            message.0[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
            if message.wants_ack() {
                awaited.push(self.sequence);
            }
            datagram.extend_from_slice(&message.0);
        }
        sendto(self.fd.as_raw_fd(), &datagram, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;

        let mut payloads = Vec::new();
        let mut buffer = vec![0; 1 << 17];
        while !awaited.is_empty() {
            let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for (kind, sequence, payload) in messages_in(&buffer[..length]) {
                match kind {
                    ERROR => match payload.get(..4).map_or(-libc_eio(), i32_of) {
                        0 => awaited.retain(|awaited| *awaited != sequence),
                        code => return Err(io::Error::from_raw_os_error(-code)),
                    },
                    DONE => awaited.retain(|awaited| *awaited != sequence),
                    _ => payloads.push(payload.to_vec()),
                }
            }
        }
        Ok(payloads)
    }
}

fn libc_eio() -> i32 {
    nix::errno::Errno::EIO as i32
}

/// The messages of a datagram: type, sequence, payload.
fn messages_in(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_of(bytes.get(..4)?)).ok()?;
        let message = bytes.get(..length).filter(|_| length >= HEADER)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16_of(&message[4..6]), u32_of(&message[8..12]), &message[HEADER..]))
    })
}

/// The attributes in `bytes`: type without flags, value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_of(bytes.get(..2)?));
        let attribute = bytes.get(..length).filter(|_| length >= 4)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16_of(&attribute[2..4]) & 0x3fff, &attribute[4..]))
    })
}

/// The first attribute of type `kind` in `bytes`.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// A text attribute's value without the zero byte.
pub(crate) fn text_of(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

/// An integer in host order; 0 where bytes are missing.
pub(crate) fn u16_of(bytes: &[u8]) -> u16 {
    bytes.first_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes))
}

/// An integer in host order; 0 where bytes are missing.
pub(crate) fn u32_of(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

fn i32_of(bytes: &[u8]) -> i32 {
    bytes.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_nest_and_come_apart() {
        let message = Message::new(7, REQUEST)
            .text(1, "ab")
            .nested(2, |m| m.attribute(3, &5u32.to_ne_bytes()).nested(4, |m| m.text(1, "xyz")));
        assert_eq!(message.0.len() % 4, 0);
        let body = &message.0[HEADER..];
        assert_eq!(text_of(attribute(body, 1).unwrap()), "ab");
        let inner = attribute(body, 2).unwrap();
        assert_eq!(u32_of(attribute(inner, 3).unwrap()), 5);
        assert_eq!(text_of(attribute(attribute(inner, 4).unwrap(), 1).unwrap()), "xyz");
        assert!(attribute(body, 9).is_none());
    }

    #[test]
    fn broken_bytes_end_the_walk() {
        for bytes in [&[1u8][..], &[2, 0, 0, 0], &[255, 255, 0, 0, 1], &[0; 8]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
            assert_eq!(messages_in(bytes).count(), 0, "{bytes:?}");
        }
    }
}
