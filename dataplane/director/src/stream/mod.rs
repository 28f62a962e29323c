//! What the packets of a session need beside new addresses and ports: other sequence numbers, options, a header
//! before the data.
//!
//! A session says in [`Care`] what that is; most need nothing. [`Engine::begin_care`] decides it with the packet
//! that opens the session, [`Engine::adapt_request`] and [`Engine::adapt_answer`] do it to every packet before its
//! addresses change. Client and server each see a stream without gaps: [`Numbers`] leads from one's numbers to the
//! other's. What FTP says is rewritten by [`crate::ftp`], which tells how long it became.

mod client_address;
mod identity;
mod initial;
mod mss;
mod quoted;
mod sequence;

use fulcrum_packet::tcp::{self, options};
use fulcrum_packet::{checksum::Delta, ipv4};

use crate::Nanos;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::ftp::Talk;
use crate::packet::{Packet, checked};
use crate::reason::{Event, Reason};
use crate::session::{Direction, Ends, Session, SessionId};
use crate::snapshot::{ClientAddress, FTP, Forward, Profile};
pub use initial::InitialNumbers;
use sequence::Prefix;
pub(crate) use sequence::Shift;

/// Part of every session: what its packets need. More is in the session's `offset` and `first_answer`, and in its
/// [`Edits`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Care(u8);

impl Care {
    /// The session waits for its client's first packet.
    const EXPECTED: u8 = 1;
    /// Sequence numbers are the director's: `offset`.
    pub(crate) const OFFSET: u8 = 2;
    /// The server is told the client's address in an option.
    pub(crate) const TOA: u8 = 4;
    /// The server is told the client's address in a header before the data.
    pub(crate) const HEADER: u8 = 8;
    /// `first_answer` is known.
    pub(crate) const ANSWERED: u8 = 16;
    /// The client speaks FTP, here.
    pub(crate) const FTP: u8 = 32;

    /// Whether the packets need nothing.
    #[inline]
    pub(crate) fn is_nothing(self) -> bool {
        self.0 == 0
    }

    /// Whether they need no more than other sequence numbers, by one offset.
    #[inline]
    pub(crate) fn is_simple(self) -> bool {
        self.0 & !(Care::OFFSET | Care::ANSWERED) == 0
    }

    /// Whether they need this, or one of these.
    #[inline]
    pub(crate) fn wants(self, what: u8) -> bool {
        self.0 & what != 0
    }

    fn add(&mut self, what: u8) {
        self.0 |= what;
    }

    fn forgo(&mut self, what: u8) {
        self.0 &= !what;
    }

    pub(crate) fn is_expected(self) -> bool {
        self.wants(Care::EXPECTED)
    }

    pub(crate) fn expect(&mut self) {
        self.add(Care::EXPECTED);
    }

    pub(crate) fn meet(&mut self) {
        self.forgo(Care::EXPECTED);
    }
}

/// The rare part of a session: what was changed in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edits {
    /// In the client's direction to the server, and in the server's.
    pub(crate) request: Shift,
    pub(crate) answer: Shift,
    /// The header before the client's first byte, and its form.
    prefix: Option<Prefix>,
    how: ClientAddress,
    /// What FTP is about to do.
    pub(crate) talk: Talk,
}

/// From the numbers of a session's one side to those of the other.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    offset: u32,
    edits: Edits,
}

impl Numbers {
    /// The server's number of the client's.
    fn request(&self, seq: u32) -> u32 {
        let edited = self.edits.request.seq(seq);
        self.edits.prefix.map_or(edited, |prefix| prefix.seq(edited)).wrapping_add(self.offset)
    }

    /// The client's number of what the server acknowledges.
    fn acknowledged(&self, ack: u32) -> u32 {
        let ack = ack.wrapping_sub(self.offset);
        self.edits.request.ack(self.edits.prefix.map_or(ack, |prefix| prefix.ack(ack)))
    }
}

/// Takes the time stamps out of a SYN whose numbers the director gives.
fn blank_timestamps<B: Buf>(packet: &mut Packet<B>, care: Care) -> Delta {
    if packet.flags & tcp::SYN == 0 || !care.wants(Care::OFFSET) {
        return Delta::default();
    }
    // A server would see the clocks of many clients behind one address, and none that only goes forward.
    options::blank(packet.payload_mut(), options::TIMESTAMPS).1
}

/// What [`Engine::begin_care`] decides for a session of IPv4 by FULLNAT, whose server is told nothing, with the SYN that
/// opens it: its numbers are the director's.
#[inline]
pub(crate) fn lead_numbers(session: &mut Session, numbers: &InitialNumbers, now: Nanos, syn: &mut [u8]) {
    let Ok(segment) = tcp::Segment::new_checked(&mut *syn) else { return };
    let number = numbers.number_v4(session.goes(Direction::In), now);
    session.set_offset(number.wrapping_sub(segment.seq()));
    session.care.add(Care::OFFSET);
    if segment.header_len() > tcp::HEADER {
        let delta = options::blank(syn, options::TIMESTAMPS).1;
        let mut segment = checked(tcp::Segment::new_checked(syn));
        let mended = delta.apply(segment.checksum());
        segment.set_checksum(mended);
    }
}

impl<P: Pool> Engine<P> {
    /// Decides what a new session's packets need, by the packet of the client that opens it.
    pub(crate) fn begin_care(
        &mut self,
        now: Nanos,
        id: SessionId,
        packet: &Packet<P::Buf>,
        profile: &Profile,
    ) {
        let session = self.sessions.get(id);
        if !matches!(session.forward(), Forward::Nat | Forward::FullNat) {
            return;
        }
        let fullnat = session.forward() == Forward::FullNat;
        let (mut care, mut offset) = (session.care, session.offset);
        let data = self.is_ftp_data(id);
        let header = match profile.client_address {
            ClientAddress::None => None,
            _ if data => None,
            how => {
                let Ends { client, vip, .. } = self.sessions.ends(id);
                identity::header(how, session.protocol(), client.into(), vip.into())
            }
        };
        if session.protocol() != ipv4::TCP {
            if header.is_some() {
                self.sessions.get_mut(id).care.add(Care::HEADER);
            }
            return;
        }
        if session.vip_port() == FTP && !data {
            care.add(Care::FTP);
        }
        let opens = packet.flags & (tcp::SYN | tcp::ACK | tcp::RST) == tcp::SYN;
        let seq = tcp::Segment::new_checked(packet.payload()).map_or(0, |segment| segment.seq());
        if opens && fullnat {
            let numbers = &self.config.numbers;
            let number = match session.is_wide() {
                false => numbers.number_v4(session.goes(Direction::In), now),
                true => {
                    let Ends { local, server, .. } = self.sessions.ends(id);
                    numbers.number(local, server, now)
                }
            };
            offset = number.wrapping_sub(seq);
            care.add(Care::OFFSET);
            if profile.client_address == ClientAddress::Toa {
                care.add(Care::TOA);
            }
        }
        let session = self.sessions.get_mut(id);
        session.care = care;
        session.set_offset(offset);
        if let Some(header) = header.filter(|_| opens)
            && let Some(edits) = self.sessions.make_edits(id)
        {
            edits.how = profile.client_address;
            edits.prefix = Some(Prefix::new(seq.wrapping_add(1), header.bytes().len() as u16));
            self.sessions.get_mut(id).care.add(Care::HEADER);
        }
    }

    /// Begins anew with a SYN that takes over a session which was over.
    pub(crate) fn renew_care(
        &mut self,
        now: Nanos,
        id: SessionId,
        packet: &Packet<P::Buf>,
        profile: &Profile,
    ) {
        let session = self.sessions.get_mut(id);
        session.care = Care::default();
        session.set_offset(0);
        if let Some(edits) = self.sessions.edits_mut(id) {
            *edits = Edits::default();
        }
        self.begin_care(now, id, packet, profile);
    }

    fn numbers(&self, id: SessionId) -> Numbers {
        let edits = self.sessions.edits(id).copied().unwrap_or_default();
        Numbers { offset: self.sessions.get(id).offset, edits }
    }

    /// Makes a client's packet what its server expects, addresses and ports aside; `room` is the length that it
    /// may have. Gives a packet to be sent before it, when the header before the data does not fit into it.
    pub(crate) fn adapt_request(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &mut Packet<P::Buf>,
        id: SessionId,
        room: usize,
    ) -> Result<Option<Packet<P::Buf>>, Reason> {
        let care = self.sessions.get(id).care;
        if packet.is_later_fragment() {
            return Ok(None);
        }
        match packet.protocol {
            ipv4::TCP => {}
            ipv4::UDP if care.wants(Care::HEADER) => return self.lead_datagram(ctx, packet, id, room),
            _ => return Ok(None),
        }
        if care.is_simple() {
            let offset = self.shift_of_request(packet, id);
            let mut segment = checked(tcp::Segment::new_checked(packet.payload_mut()));
            let delta = segment.set_seq(segment.seq().wrapping_add(offset));
            packet.mend(delta);
            return Ok(None);
        }
        let syn = packet.flags & tcp::SYN != 0;
        let mut delta = blank_timestamps(packet, care);
        let segment = packet.payload_mut();
        if syn && care.wants(Care::HEADER) {
            // Data in a SYN would come before the header.
            delta = delta.and(options::blank(segment, options::FAST_OPEN).1);
        }
        if care.wants(Care::TOA) {
            for kind in [options::EXPERIMENT_1, options::EXPERIMENT_2] {
                let (forged, blanked) = options::blank(segment, kind);
                delta = delta.and(blanked);
                if forged > 0 {
                    self.counters.event(Event::ForgedAddressRemoved);
                }
            }
        }
        packet.mend(delta);
        let segment = checked(tcp::Segment::new_checked(packet.payload()));
        let (seq, ack) = (segment.seq(), segment.ack());
        if care.wants(Care::FTP) {
            self.hear_client(ctx, packet, id, seq);
        }
        let numbers = self.numbers(id);
        let due = numbers.edits.prefix.is_some_and(|prefix| prefix.is_due(seq))
            && packet.flags & (tcp::SYN | tcp::RST | tcp::ACK) == tcp::ACK;
        let to = if syn { seq.wrapping_add(numbers.offset) } else { numbers.request(seq) };
        self.renumber(packet, to, |ack| numbers.edits.answer.ack(ack));
        if due {
            return self.lead_segment(ctx, packet, id, room);
        }
        let first = care.wants(Care::ANSWERED) && ack == self.sessions.first_answer(id);
        if care.wants(Care::TOA) && first && packet.flags & (tcp::SYN | tcp::RST | tcp::ACK) == tcp::ACK {
            self.add_option(packet, id, room);
        }
        Ok(None)
    }

    /// Takes out of a client's segment what its server must not see, of a session that needs no more than other numbers;
    /// gives by how much these are others.
    #[inline]
    pub(crate) fn shift_of_request(&self, packet: &mut Packet<P::Buf>, id: SessionId) -> u32 {
        let Session { care, offset, .. } = *self.sessions.get(id);
        if packet.payload().get(12).is_some_and(|length| usize::from(length >> 4) * 4 > tcp::HEADER) {
            let delta = blank_timestamps(packet, care);
            packet.mend(delta);
        }
        offset
    }

    /// Makes a server's packet what its client expects, addresses and ports aside.
    pub(crate) fn adapt_answer(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &mut Packet<P::Buf>,
        id: SessionId,
    ) {
        if packet.is_later_fragment() || packet.protocol != ipv4::TCP {
            return;
        }
        let segment = checked(tcp::Segment::new_checked(packet.payload()));
        let (seq, ack) = (segment.seq(), segment.ack());
        if packet.flags & (tcp::SYN | tcp::ACK) == tcp::SYN | tcp::ACK {
            self.sessions.set_first_answer(id, seq.wrapping_add(1));
            let care = &mut self.sessions.get_mut(id).care;
            care.add(Care::ANSWERED);
            if care.wants(Care::TOA) {
                let taken = identity::toa_len(self.sessions.ends(id).client.0) as u16;
                mss::leave_room(packet, taken);
            }
        }
        let Session { care, offset, .. } = *self.sessions.get(id);
        if packet.flags & tcp::ACK != 0
            && let Some(edits) = self.sessions.edits_mut(id)
            && let Some(prefix) = &mut edits.prefix
        {
            prefix.acknowledged(ack.wrapping_sub(offset));
        }
        if care.wants(Care::FTP) {
            self.hear_server(ctx, packet, id, seq);
        }
        let numbers = self.numbers(id);
        self.renumber(packet, numbers.edits.answer.seq(seq), |ack| numbers.acknowledged(ack));
    }

    /// Gives a segment another sequence number and its acknowledgments others.
    fn renumber(&self, packet: &mut Packet<P::Buf>, seq: u32, ack: impl Fn(u32) -> u32) {
        let acknowledges = packet.flags & tcp::ACK != 0;
        let mut segment = checked(tcp::Segment::new_checked(packet.payload_mut()));
        let mut delta = Delta::default();
        if segment.seq() != seq {
            delta = delta.and(segment.set_seq(seq));
        }
        let old = segment.ack();
        if acknowledges && ack(old) != old {
            delta = delta.and(segment.set_ack(ack(old)));
        }
        if acknowledges {
            delta = delta.and(options::shift_sacks(packet.payload_mut(), ack));
        }
        packet.mend(delta);
    }
}
