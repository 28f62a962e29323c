//! The messages of a datagram, and the datagrams that answer one.

use netlink_packet_core::{
    Emitable as _, NLM_F_ACK, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_MULTIPART, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
};

use crate::attribute::Writer;
use crate::{Errno, Record};

/// Bytes of a message's own header.
const HEADER: usize = 16;

/// Bytes of a datagram of several messages at most: what a kernel with pages of 4 KiB sends to a reader of whom it does
/// not know that there is room for more.
pub const PACKET: usize = 3776;

/// Numbers below are of messages that are no request of anybody.
const FIRST_OF_FAMILIES: u16 = 0x10;

/// One message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    /// Header and all.
    whole: &'a [u8],
}

/// The messages of a datagram, up to the first that is not whole.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let header = NetlinkBuffer::new_checked(rest).ok()?;
        let length = header.length() as usize;
        let message = Message {
            kind: header.message_type(),
            flags: header.flags(),
            sequence: header.sequence_number(),
            port: header.port_number(),
            whole: &rest[..length],
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

impl<'a> Message<'a> {
    /// The family that it is for; `None` of what asks nobody for anything.
    pub(crate) fn family(&self) -> Option<u16> {
        (self.flags & NLM_F_REQUEST != 0 && self.kind >= FIRST_OF_FAMILIES).then_some(self.kind)
    }

    /// Whether it asks for all there is.
    pub(crate) fn is_dump(&self) -> bool {
        // Two flags; one of them alone means something else (NLM_F_EXCL of a request that makes something).
        self.flags & NLM_F_DUMP == NLM_F_DUMP
    }

    /// What follows the header.
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.whole[HEADER..]
    }

    /// Header and all.
    pub fn bytes(&self) -> &'a [u8] {
        self.whole
    }

    /// Whether success is to be told.
    pub fn wants_ack(&self) -> bool {
        self.flags & NLM_F_ACK != 0
    }

    /// Tells of success. Of the request there is the header only.
    pub fn ack(&self) -> Vec<u8> {
        self.verdict(0, NLM_F_CAPPED, &self.whole[..HEADER])
    }

    /// Tells why nothing was done, with the whole request.
    pub fn refusal(&self, why: Errno) -> Vec<u8> {
        self.verdict(-why.0, 0, self.whole)
    }

    fn verdict(&self, number: i32, flags: u16, quoted: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + 4 + quoted.len());
        self.message(&mut out, NLMSG_ERROR, flags, |out| {
            out.extend_from_slice(&number.to_ne_bytes());
            out.extend_from_slice(quoted);
            // The kernel counts what fills the request up.
            out.resize(out.len().next_multiple_of(4), 0);
        });
        out
    }

    /// The one record that answers it.
    pub fn reply(&self, record: &Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        self.record(&mut out, 0, record);
        out
    }

    /// The records that answer it, in datagrams of at most [`PACKET`] bytes, and the end of them, made as they are asked
    /// for.
    pub fn dump<'r>(&self, records: Vec<Record<'r>>) -> Dump<'a, 'r> {
        Dump { message: *self, records: records.into_iter(), next: Vec::new(), ended: false }
    }

    fn record(&self, out: &mut Vec<u8>, flags: u16, record: &Record<'_>) {
        self.message(out, record.family(), flags, |out| {
            let (command, version) = record.command();
            out.extend_from_slice(&[command, version, 0, 0]);
            record.write(&mut Writer::new(out));
        });
    }

    /// Puts a message that answers this one behind what is there.
    fn message(&self, out: &mut Vec<u8>, kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>)) {
        let at = out.len();
        out.resize(at + HEADER, 0);
        body(out);
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(out.len() - at).expect("no answer is as long as that");
        header.message_type = kind;
        header.flags = flags;
        header.sequence_number = self.sequence;
        header.port_number = self.port;
        header.emit(&mut out[at..]);
        out.resize(at + (out.len() - at).next_multiple_of(4), 0);
    }
}

/// The datagrams of an answer of several records.
#[derive(Debug)]
pub struct Dump<'a, 'r> {
    message: Message<'a>,
    records: std::vec::IntoIter<Record<'r>>,
    /// What the datagram before had no room for.
    next: Vec<u8>,
    ended: bool,
}

impl Iterator for Dump<'_, '_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut packet = std::mem::take(&mut self.next);
        for record in self.records.by_ref() {
            let before = packet.len();
            self.message.record(&mut packet, NLM_F_MULTIPART, &record);
            if before != 0 && packet.len() > PACKET {
                packet.truncate(before);
                // Where it stands decides about its padding.
                self.message.record(&mut self.next, NLM_F_MULTIPART, &record);
                return Some(packet);
            }
        }
        if packet.is_empty() {
            self.ended = true;
            self.message.message(&mut packet, NLMSG_DONE, NLM_F_MULTIPART, |out| {
                out.extend_from_slice(&0i32.to_ne_bytes());
            });
        }
        Some(packet)
    }
}
