//! A server is told its client's address: the option, and the header before the data, put into packets.

use fulcrum_packet::checksum::{fold, pseudo_header_of, sum};
use fulcrum_packet::tcp::{self, options};
use fulcrum_packet::{ipv4, ipv6, udp};

use super::{Care, identity};
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::packet::{Packet, checked};
use crate::reason::{Event, Reason};
use crate::session::{Ends, SessionId};
use crate::snapshot::ClientAddress;

impl<P: Pool> Engine<P> {
    /// Puts the client's address first among the options of a segment. One that would be longer than `room` goes
    /// without: another of the first ones will do.
    pub(super) fn add_option(&mut self, packet: &mut Packet<P::Buf>, id: SessionId, room: usize) {
        let option = identity::toa(self.sessions.ends(id).client.into());
        let event = if with_option(packet, option.bytes(), room) {
            Event::AddressOptionAdded
        } else {
            Event::AddressOptionOmitted
        };
        self.counters.event(event);
    }

    /// Puts the header before the data of the segment that carries the client's first byte, or comes before it.
    /// Nothing that the client sends may stand where the server looks for the header, so a segment that it cannot
    /// be put into is preceded by another, and one before which it cannot go does not go either.
    pub(super) fn lead_segment(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &mut Packet<P::Buf>,
        id: SessionId,
        room: usize,
    ) -> Result<Option<Packet<P::Buf>>, Reason> {
        let how = self.sessions.edits(id).map_or(ClientAddress::None, |edits| edits.how);
        let Ends { client, vip, .. } = self.sessions.ends(id);
        let Some(header) = identity::header(how, packet.protocol, client.into(), vip.into()) else {
            return Ok(None);
        };
        let data = checked(tcp::Segment::new_checked(packet.payload())).header_len();
        if !(tcp::HEADER..=packet.payload().len()).contains(&data) {
            return Err(Reason::BadTransportHeader);
        }
        self.counters.event(Event::AddressHeaderSent);
        let fits = packet.fragment.is_none() && packet.total + header.bytes().len() <= room;
        if fits && packet.splice(data, 0, header.bytes()) {
            return Ok(None);
        }
        let mut before = start_of(ctx, packet, data, header.bytes())?;
        before.flags = tcp::ACK | tcp::PSH;
        before.payload_mut()[13] = before.flags;
        before.payload_mut()[16..18].fill(0);
        let checksum = transport_checksum(&before);
        before.payload_mut()[16..18].copy_from_slice(&checksum.to_be_bytes());
        let mut segment = checked(tcp::Segment::new_checked(packet.payload_mut()));
        let behind = segment.seq().wrapping_add(header.bytes().len() as u32);
        let delta = segment.set_seq(behind);
        packet.mend(delta);
        Ok(Some(before))
    }

    /// Puts the header before the data of a session's first datagram, or a datagram of its own before that.
    pub(super) fn lead_datagram(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: &mut Packet<P::Buf>,
        id: SessionId,
        room: usize,
    ) -> Result<Option<Packet<P::Buf>>, Reason> {
        self.sessions.get_mut(id).care.forgo(Care::HEADER);
        let destination = self.sessions.get(id).destination;
        let how = ctx.snap.destination(destination).map(|server| server.profile.client_address);
        let how = how.unwrap_or_default();
        let Ends { client, vip, .. } = self.sessions.ends(id);
        let Some(header) = identity::header(how, packet.protocol, client.into(), vip.into()) else {
            return Ok(None);
        };
        self.counters.event(Event::AddressHeaderSent);
        let fits = packet.fragment.is_none() && packet.total + header.bytes().len() <= room;
        if fits && packet.splice(udp::HEADER, 0, header.bytes()) {
            return Ok(None);
        }
        let mut before = start_of(ctx, packet, udp::HEADER, header.bytes())?;
        let length = before.payload().len() as u16;
        before.payload_mut()[4..6].copy_from_slice(&length.to_be_bytes());
        before.payload_mut()[6..8].fill(0);
        let checksum = match transport_checksum(&before) {
            0 => 0xffff,
            checksum => checksum,
        };
        before.payload_mut()[6..8].copy_from_slice(&checksum.to_be_bytes());
        Ok(Some(before))
    }
}

/// A packet of `data` behind the first `header` bytes of another's transport header; without the other's IP options
/// and extension headers, and whole when the other is a fragment. Its transport checksum is to be filled in.
fn start_of<P: Pool>(
    ctx: &mut Context<'_, P>,
    packet: &Packet<P::Buf>,
    header: usize,
    data: &[u8],
) -> Result<Packet<P::Buf>, Reason> {
    let (l3, l4) = (packet.l3, packet.l3 + if packet.is_v6() { ipv6::HEADER } else { ipv4::HEADER });
    let total = l4 - l3 + header + data.len();
    let mut buf = ctx.pool.alloc(l3 + total).ok_or(Reason::NoBuffer)?;
    let bytes = buf.bytes_mut();
    bytes[..l4].copy_from_slice(&packet.buf.bytes()[..l4]);
    bytes[l4..l4 + header].copy_from_slice(&packet.payload()[..header]);
    bytes[l4 + header..].copy_from_slice(data);
    if packet.is_v6() {
        let mut ip = checked(ipv6::Packet::new_quoted(&mut bytes[l3..]));
        ip.set_next_header(packet.protocol);
        ip.set_payload_len((header + data.len()) as u16);
    } else {
        bytes[l3] = 0x45;
        let mut ip = checked(ipv4::Packet::new_quoted(&mut bytes[l3..]));
        ip.set_fragment(total as u16, ip.fragment() & ipv4::DF);
        ip.fill_checksum();
    }
    Ok(Packet { buf, l4, total, fragment: None, ..*packet })
}

fn transport_checksum<B: Buf>(packet: &Packet<B>) -> u16 {
    let body = packet.payload();
    !fold(pseudo_header_of(packet.src, packet.dst, packet.protocol, body.len()) + sum(body))
}

/// Puts an option first. When there is no room for all, padding and forged addresses give way, then every other
/// option but time stamps, without which a receiver that wants them does not take the segment.
fn with_option<B: Buf>(packet: &mut Packet<B>, option: &[u8], room: usize) -> bool {
    let Some(data) = packet.tcp_data() else { return false };
    let old = data - tcp::HEADER;
    let (all, len, replaced) = if old + option.len() <= options::ROOM {
        let mut all = [0; options::ROOM];
        all[..option.len()].copy_from_slice(option);
        (all, option.len(), 0)
    } else {
        let forged = [options::EXPERIMENT_1, options::EXPERIMENT_2];
        let gathered = options::gather(packet.payload(), option, |kind| !forged.contains(&kind))
            .or_else(|| options::gather(packet.payload(), option, |kind| kind == options::TIMESTAMPS));
        let Some((all, len)) = gathered else { return false };
        (all, len, old)
    };
    if packet.total + len - replaced > room || !packet.splice(tcp::HEADER, replaced, &all[..len]) {
        return false;
    }
    let mut segment = checked(tcp::Segment::new_checked(packet.payload_mut()));
    let delta = segment.set_header_len(data + len - replaced);
    packet.mend(delta);
    true
}
