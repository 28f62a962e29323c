//! The exception path: what is not the director's goes up to the host, and what the host sends goes out.
//!
//! An interface may have a twin in Linux (the runtime makes it). Which kind of traffic a frame is, is in `class`, how
//! much of a kind goes up in `police`, what the host sends in `down`. Only what would be dropped, answered for the host or
//! delivered to it comes here: packets of sessions with servers pay nothing.

mod class;
mod down;
mod police;

use std::net::IpAddr;

use fulcrum_packet::ethernet;

pub use class::Class;
pub(crate) use class::classify;
pub(crate) use police::Policer;
pub use police::{Buckets, Limits};

use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::message::Stage;
use crate::output::Sent;
use crate::packet::Packet;
use crate::reason::{Event, Reason, VerdictKind};
use crate::session::SessionId;
use crate::snapshot::{InterfaceId, Snapshot};

/// A frame for the host.
#[derive(Debug)]
pub struct Up<B> {
    /// The interface whose twin it comes in by.
    pub interface: InterfaceId,
    /// What it is: the order in which the host gets what waits.
    pub class: Class,
    /// The frame, without a VLAN tag.
    pub buf: B,
}

/// The interface by whose twin packets to an address of the host go up that came in by `came`.
pub(crate) fn way_up(snap: &Snapshot, came: InterfaceId, dst: IpAddr) -> Option<InterfaceId> {
    let holder = *snap.hosts.get(&dst)?;
    Some(if has_twin(snap, came) { came } else { holder })
}

/// Whether an interface has a twin in Linux.
pub(crate) fn has_twin(snap: &Snapshot, interface: InterfaceId) -> bool {
    snap.interfaces.get(usize::from(interface)).is_some_and(|place| place.exception)
}

impl<P: Pool> Engine<P> {
    /// A packet that is not the director's: to the host where its interface has a twin, else it is dropped for `reason`.
    pub(crate) fn up_or_drop(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, reason: Reason) {
        if packet.stage == Stage::Host || !has_twin(ctx.snap, packet.interface) {
            return self.drop_packet(ctx, packet, reason, None);
        }
        self.give_up(ctx, packet.port, packet.interface, packet.buf);
    }

    /// Gives a packet to an address of the host up to it; gives back what is to none.
    pub(crate) fn up_to_host(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: Packet<P::Buf>,
    ) -> Option<Packet<P::Buf>> {
        if packet.stage == Stage::Host {
            return Some(packet);
        }
        let Some(to) = way_up(ctx.snap, packet.interface, packet.dst) else { return Some(packet) };
        let Packet { port, interface, mut buf, .. } = packet;
        if to != interface {
            // For Linux it would be another station's otherwise.
            buf.bytes_mut()[..6].copy_from_slice(&ctx.snap.interfaces[usize::from(to)].mac);
        }
        self.give_up(ctx, port, to, buf);
        None
    }

    /// Gives a frame up by the twin of an interface, as far as frames of its class may go up.
    pub(crate) fn give_up(
        &mut self,
        ctx: &mut Context<'_, P>,
        port: u16,
        interface: InterfaceId,
        buf: P::Buf,
    ) {
        let class = classify(buf.bytes(), &ctx.snap.exception.management_ports);
        if !self.may_go_up(ctx, interface, class) {
            return self.drop_frame(ctx, port, class.policed(), buf);
        }
        self.verdict(ctx, VerdictKind::Punt, class.event().name(), None);
        self.push_up(ctx, interface, class, buf);
    }

    /// Gives a copy of a frame up that is the director's, too.
    pub(crate) fn copy_up(&mut self, ctx: &mut Context<'_, P>, interface: InterfaceId, frame: &[u8]) {
        let class = classify(frame, &ctx.snap.exception.management_ports);
        if !has_twin(ctx.snap, interface) || !self.may_go_up(ctx, interface, class) {
            return;
        }
        let Some(mut copy) = ctx.pool.alloc(frame.len()) else { return };
        copy.bytes_mut().copy_from_slice(frame);
        self.push_up(ctx, interface, class, copy);
    }

    fn may_go_up(&mut self, ctx: &Context<'_, P>, interface: InterfaceId, class: Class) -> bool {
        let granted = self.policer.take(class, ctx.now, &ctx.snap.exception);
        if !granted {
            let port = ctx.snap.interfaces[usize::from(interface)].port;
            self.counters.exception(port).of(class).policed.add(1);
        }
        granted
    }

    fn push_up(&mut self, ctx: &mut Context<'_, P>, interface: InterfaceId, class: Class, mut buf: P::Buf) {
        let tagged = ethernet::Frame::new_checked(buf.bytes())
            .is_ok_and(|frame| frame.header_len() != ethernet::HEADER);
        if tagged {
            buf.bytes_mut().copy_within(..ethernet::ADDRESSES, ethernet::TAG);
            buf.shrink_front(ethernet::TAG);
        }
        self.counters.event(class.event());
        let port = ctx.snap.interfaces[usize::from(interface)].port;
        self.counters.exception(port).of(class).up.add(1);
        ctx.out.up.push(Up { interface, class, buf });
    }

    /// A client's packet whose server is the host: as it came, to the VIP, which has to be one of its addresses.
    pub(crate) fn serve_by_host(&mut self, ctx: &mut Context<'_, P>, packet: Packet<P::Buf>, id: SessionId) {
        let to = way_up(ctx.snap, packet.interface, packet.dst);
        let Some(to) = to.filter(|_| packet.stage != Stage::Host) else {
            return self.refuse_of_session(ctx, packet, id);
        };
        let Packet { port, l3, buf, .. } = packet;
        self.send_up(ctx, buf, l3, to);
        self.sent(ctx, Sent::Up, port, Event::ForwardedLocal, Some(id));
    }

    /// Sends the packet at `l3` of a frame to the host: one that sessions or the director itself send there.
    pub(crate) fn send_up(
        &mut self,
        ctx: &mut Context<'_, P>,
        mut buf: P::Buf,
        l3: usize,
        interface: InterfaceId,
    ) -> Sent {
        match l3.checked_sub(ethernet::HEADER) {
            Some(more) => buf.shrink_front(more),
            None if buf.grow_front(ethernet::HEADER - l3) => {}
            None => return Sent::Dropped(Reason::NoHeadroom),
        }
        let mac = ctx.snap.interfaces[usize::from(interface)].mac;
        let v6 = buf.bytes().get(ethernet::HEADER).is_some_and(|first| first >> 4 == 6);
        let ethertype = if v6 { ethernet::IPV6 } else { ethernet::IPV4 };
        ethernet::emit(buf.bytes_mut(), mac, mac, 0, ethertype);
        self.push_up(ctx, interface, Class::Served, buf);
        Sent::Up
    }
}
