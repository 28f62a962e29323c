//! The resolver's dealings with the rest of the engine: packets that wait, questions, announcements, news for the
//! other workers. Only on worker 0. What is known, and what is due, is in `neighbour`; the packets are in `arp`
//! and `ndisc`.

use std::net::IpAddr;

use fulcrum_packet::{ethernet, ip};

use crate::Transmit;
use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::marks::prefix_matches;
use crate::message::{Envelope, Message};
use crate::neighbour::{Refused, Task};
use crate::output::Sent;
use crate::reason::{Event, Reason};
use crate::snapshot::{Arrival, InterfaceId, Snapshot};

/// Questions and failures of a step at most: with thousands of neighbours many are due at once, and packets wait.
const TASKS: usize = 32;

impl<P: Pool> Engine<P> {
    /// Takes in where a neighbour is: every worker is told, and what waited for it goes out.
    pub(super) fn found(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: IpAddr,
        mac: [u8; 6],
    ) {
        self.spread(ctx, interface, address, Some(mac));
        self.release_parked(ctx, interface, address, mac);
    }

    /// Tells every worker what is known of a neighbour.
    fn spread(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: IpAddr,
        mac: Option<[u8; 6]>,
    ) {
        self.neighbours.learn(interface, address, mac, ctx.now);
        for to in (0..self.steer.workers()).filter(|&to| to != self.config.worker) {
            ctx.out.outbox.push(Envelope { to, message: Message::Neighbour { interface, address, mac } });
        }
    }

    /// Sends what waited for a neighbour.
    fn release_parked(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: IpAddr,
        mac: [u8; 6],
    ) {
        let place = &ctx.snap.interfaces[usize::from(interface)];
        while let Some(mut waiting) = self.resolver.release(interface, address) {
            ethernet::set_addresses(waiting.buf.bytes_mut(), mac, place.mac);
            ctx.out.tx.push(Transmit { port: place.port, buf: waiting.buf });
        }
    }

    /// Parks a finished frame until its next hop is known.
    pub(crate) fn park(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        next_hop: IpAddr,
        port: u16,
        routed: bool,
        mut buf: P::Buf,
    ) -> Sent {
        let Some(place) = ctx.snap.interfaces.get(usize::from(interface)) else {
            ctx.refuse(buf);
            return Sent::Dropped(Reason::NoRoute);
        };
        if let Some(mac) = self.resolver.known(interface, next_hop) {
            // The worker that parked it has missed the news.
            ethernet::set_addresses(buf.bytes_mut(), mac, place.mac);
            ctx.out.tx.push(Transmit { port: place.port, buf });
            self.spread(ctx, interface, next_hop, Some(mac));
            return Sent::Out;
        }
        match self.resolver.park(interface, next_hop, port, routed, buf, ctx.now) {
            Ok(ask) => {
                self.counters.event(Event::Parked);
                if ask {
                    self.ask(ctx, interface, next_hop, None);
                }
                Sent::Parked
            }
            Err((refused, buf)) => {
                let reason = match refused {
                    Refused::QueueFull => Reason::NeighbourQueueFull,
                    Refused::TableFull => Reason::NeighbourTableFull,
                    Refused::Failed => Reason::NeighbourFailed,
                };
                if refused == Refused::Failed && routed {
                    self.tell_host_unreachable(ctx, &buf, interface);
                }
                ctx.refuse(buf);
                Sent::Dropped(reason)
            }
        }
    }

    /// A worker uses a neighbour whose entry nears its end.
    pub(crate) fn neighbour_used(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: IpAddr,
    ) {
        if !self.resolver.used(interface, address, ctx.now) {
            self.spread(ctx, interface, address, None);
        }
    }

    /// Does what the resolver finds due.
    pub(crate) fn resolve(&mut self, ctx: &mut Context<'_, P>) {
        if self.announces() {
            let snap = ctx.snap;
            for arrival in self.announcer.next(ctx.now, &snap.arrivals).into_iter().flatten() {
                let Arrival { interface, address, .. } = snap.arrivals[arrival];
                self.announce(ctx, interface, address);
            }
        }
        let mut watches = self.resolver.watches(ctx.now);
        for _ in 0..TASKS {
            let Some(task) = self.resolver.next_task(ctx.now) else { break };
            match task {
                Task::Ask { interface, address, unicast } => self.ask(ctx, interface, address, unicast),
                Task::GiveUp { interface, address } => {
                    watches = true;
                    self.spread(ctx, interface, address, None);
                    while let Some(waiting) = self.resolver.release(interface, address) {
                        if waiting.routed {
                            self.tell_host_unreachable(ctx, &waiting.buf, interface);
                        }
                        self.counters.count_drop(waiting.port, Reason::NeighbourFailed);
                        ctx.let_go(waiting.port, Reason::NeighbourFailed, waiting.buf);
                    }
                }
            }
        }
        if watches {
            self.watch_gateways(ctx);
        }
    }

    fn ask(
        &mut self,
        ctx: &mut Context<'_, P>,
        interface: InterfaceId,
        address: IpAddr,
        unicast: Option<[u8; 6]>,
    ) {
        if usize::from(interface) >= ctx.snap.interfaces.len() {
            return;
        }
        match address {
            IpAddr::V4(address) => self.ask_arp(ctx, interface, address, unicast),
            IpAddr::V6(address) => self.solicit(ctx, interface, address, unicast),
        }
    }

    fn announce(&mut self, ctx: &mut Context<'_, P>, interface: InterfaceId, address: IpAddr) {
        if usize::from(interface) >= ctx.snap.interfaces.len() {
            return;
        }
        match address {
            IpAddr::V4(address) => self.announce_arp(ctx, interface, address),
            IpAddr::V6(address) => {
                self.report_listening(ctx, interface, address);
                self.advertise(ctx, interface, address, None);
            }
        }
    }
}

/// The own address to ask for a neighbour from: of its subnet, else the interface's first of its family; never a
/// VIP, lest a real server learn the director as the VIP's owner.
pub(super) fn link_address(snap: &Snapshot, interface: InterfaceId, neighbour: IpAddr) -> IpAddr {
    let host = if neighbour.is_ipv6() { 128 } else { 32 };
    let addresses = &snap.interfaces[usize::from(interface)].addresses;
    let mut of_family = addresses.iter().filter(|(own, _)| own.is_ipv6() == neighbour.is_ipv6());
    let in_subnet =
        of_family.clone().find(|&&(own, length)| length < host && prefix_matches(own, length, neighbour));
    in_subnet.or(of_family.next()).map_or(ip::unspecified(neighbour.is_ipv6()), |&(own, _)| own)
}
