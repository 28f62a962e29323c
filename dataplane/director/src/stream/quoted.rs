//! Sequence numbers that ICMP errors quote: a host heeds an error only when it is about a segment that it has sent.

use fulcrum_packet::{icmp, ipv4, ipv6};

use crate::buffer::{Buf, Pool};
use crate::engine::Engine;
use crate::packet::Packet;
use crate::session::{Direction, SessionId};

/// Where a TCP header has its sequence number.
const SEQ: usize = 4;

impl<P: Pool> Engine<P> {
    /// Gives the segment that an ICMP error about a session quotes the number that its sender gave it; `from` is
    /// where the error comes from. The error's checksum is left for its next change.
    pub(crate) fn renumber_quoted(&self, packet: &mut Packet<P::Buf>, id: SessionId, from: Direction) {
        if self.sessions.get(id).care.is_nothing() {
            return;
        }
        let numbers = self.numbers(id);
        let Some(seq) = quoted_seq(packet) else { return };
        let old = u32::from_be_bytes([seq[0], seq[1], seq[2], seq[3]]);
        let new = match from {
            // About what the client sent, as the server's side saw it.
            Direction::Out => numbers.acknowledged(old),
            Direction::In => numbers.edits.answer.ack(old),
        };
        seq.copy_from_slice(&new.to_be_bytes());
    }
}

/// Where the quoted segment's number is.
fn quoted_seq<B: Buf>(packet: &mut Packet<B>) -> Option<&mut [u8]> {
    let quoted = packet.payload().get(icmp::HEADER..)?;
    let (protocol, offset) = if packet.is_v6() {
        let upper = ipv6::Packet::new_quoted(quoted).ok()?.upper().ok()?;
        (upper.protocol, upper.offset)
    } else {
        let ip = ipv4::Packet::new_quoted(quoted).ok()?;
        (ip.protocol(), ip.header_len())
    };
    let at = icmp::HEADER + offset + SEQ;
    (protocol == ipv4::TCP).then(|| packet.payload_mut().get_mut(at..at + 4)).flatten()
}
