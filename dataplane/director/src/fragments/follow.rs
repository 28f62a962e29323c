//! A fragment's way: to the worker that keeps its datagram, and from there, with the ports that the first one
//! showed, to the owner of its flow.

use super::{Key, Later, Piece, Refusal};
use fulcrum_packet::ipv6;

use crate::buffer::{Buf, Pool};
use crate::engine::{Context, Engine};
use crate::gateway::echo_key;
use crate::host::is_echo_request;
use crate::icmp::quoted_key;
use crate::marks::prefix_matches;
use crate::message::{First, Stage};
use crate::packet::{Fragment, Packet, is_balanced};
use crate::reason::{Event, Reason, VerdictKind};
use crate::snapshot::Snapshot;

/// Fragments that waited in vain, let go per step at most.
const DISCARD_BUDGET: usize = 64;

/// A fragment that waits.
#[derive(Debug)]
pub(crate) struct Waiting<B> {
    port: u16,
    hops: u8,
    buf: B,
}

/// Whether a fragment may be part of what a service, a server's answer or an ICMP message to us is about.
pub(crate) fn concerns_us<B: Buf>(snap: &Snapshot, packet: &Packet<B>) -> bool {
    let ours = snap.locals.contains_key(&packet.dst);
    if packet.is_icmp() && ours {
        return true;
    }
    // Behind the fragment header of IPv6 there may be another one, of which only the first fragment says more.
    let hidden = packet.is_v6() && packet.is_later_fragment() && packet.protocol == ipv6::DESTINATION;
    (is_balanced(packet.protocol) || packet.is_icmp() || hidden)
        && !snap.without_services()
        && (ours
            || snap.server_addresses.contains(&packet.src)
            || !snap.mark_services.is_empty()
            || snap.snat.iter().any(|rule| prefix_matches(rule.source.0, rule.source.1, packet.src)))
}

/// What a first fragment, whose transport header has been read, says; `None` when no later one can go anywhere.
fn said<B: Buf>(snap: &Snapshot, packet: &Packet<B>) -> Option<First> {
    if !packet.is_icmp() {
        return Some(First::Ports(packet.protocol, packet.sport, packet.dport));
    }
    if !snap.snat.is_empty()
        && let Some(key) = echo_key(packet)
        && (key.dport == 0) != snap.locals.contains_key(&packet.dst)
    {
        return Some(First::Ports(packet.protocol, key.sport, key.dport));
    }
    if is_echo_request(packet) {
        return Some(First::Echo);
    }
    let of_host = || snap.hosts.contains_key(&packet.dst).then_some(First::Host);
    quoted_key(packet).map(First::Error).or_else(of_host)
}

impl<P: Pool> Engine<P> {
    /// Takes a fragment that [`concerns_us`] and whose ports are not known here; its transport header has been
    /// read when it is a first one.
    pub(crate) fn take_fragment(
        &mut self,
        ctx: &mut Context<'_, P>,
        packet: Packet<P::Buf>,
        fragment: Fragment,
    ) {
        let protocol = if packet.is_v6() { 0 } else { packet.protocol };
        let key = Key { src: packet.src, dst: packet.dst, id: fragment.id, protocol };
        let keeper = self.steer.keeper(&key);
        let Packet { port, hops, stage, .. } = packet;
        if let Some(to) = self.next_worker(keeper, hops) {
            return self.hand_over(ctx, to, port, hops, stage, packet.buf);
        }
        let start = fragment.offset as u32;
        let end = start + packet.payload().len() as u32;
        let piece = Piece { start, end, more: fragment.more };
        if packet.is_later_fragment() {
            let waiting = Waiting { port, hops, buf: packet.buf };
            match self.fragments.later(&key, piece, waiting, ctx.now) {
                Later::Ready(first, waiting) => self.follow(ctx, waiting, first, false),
                Later::Held => {
                    self.counters.event(Event::FragmentHeld);
                    self.verdict(ctx, VerdictKind::Hold, Event::FragmentHeld.name(), None);
                }
                Later::Refused(refusal, Waiting { buf, .. }) => {
                    self.drop_frame(ctx, port, reason(refusal), buf);
                }
            }
            return;
        }
        let Some(first) = said(ctx.snap, &packet) else {
            return self.drop_packet(ctx, packet, Reason::Fragment, None);
        };
        let mut ready = std::mem::take(&mut self.ready_fragments);
        match self.fragments.first(&key, piece, first, ctx.now, &mut ready) {
            Ok(()) => {
                self.follow(ctx, Waiting { port, hops, buf: packet.buf }, first, false);
                for waiting in ready.drain(..) {
                    self.follow(ctx, waiting, first, true);
                }
            }
            Err(refusal) => self.drop_packet(ctx, packet, reason(refusal), None),
        }
        self.ready_fragments = ready;
    }

    /// Sends a fragment with known ports to the owner of its flow, which may be this worker.
    fn follow(&mut self, ctx: &mut Context<'_, P>, waiting: Waiting<P::Buf>, first: First, held: bool) {
        let Waiting { port, hops, buf } = waiting;
        self.receive(ctx, port, hops, Stage::Fragment { first, owner: false, held }, buf);
    }

    /// Lets go what waited in vain.
    pub(crate) fn discard_fragments(&mut self, ctx: &mut Context<'_, P>) {
        let mut budget = DISCARD_BUDGET;
        while let Some((waiting, refusal)) = self.fragments.discarded(ctx.now, &mut budget) {
            self.counters.count_drop(waiting.port, reason(refusal));
            ctx.let_go(waiting.port, reason(refusal), waiting.buf);
        }
    }
}

fn reason(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Malformed => Reason::BadFragment,
        Refusal::Tiny => Reason::TinyFragment,
        Refusal::Duplicate => Reason::DuplicateFragment,
        Refusal::Overlap => Reason::OverlappingFragment,
        Refusal::TooManyPieces | Refusal::SourceLimit | Refusal::NoRoom => Reason::FragmentLimit,
        Refusal::TimedOut => Reason::FragmentTimeout,
    }
}
