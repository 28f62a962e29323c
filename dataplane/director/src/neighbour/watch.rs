//! Next hops of routes that have several are known all the time, whoever sends by them: one that falls silent loses its
//! flows to the others, and nobody would ask for it again.

use super::resolver::{Entry, Phase, Resolver};
use super::{Address, SCAN, TABLE};
use crate::buffer::Pool;
use crate::engine::{Context, Engine};
use crate::{Nanos, SECOND};

/// How long the word of a gateway counts: then it is asked again, three times within as many seconds.
const ASSURED: Nanos = 3 * SECOND;

impl<B> Resolver<B> {
    /// Whether it is time to look at gateways again.
    pub(crate) fn watches(&mut self, now: Nanos) -> bool {
        let is_time = now >= self.next_watch;
        if is_time {
            self.next_watch = now + SCAN;
        }
        is_time
    }

    /// Keeps a gateway known. Whether it answers, as far as that is certain now.
    fn watch(&mut self, at: Address, link: bool, now: Nanos) -> Option<bool> {
        if !self.entries.contains_key(&at) {
            if self.entries.len() < 2 * TABLE {
                self.entries.insert(at, Entry::to_ask(now));
            }
            return (!link).then_some(false);
        }
        self.want(&at);
        let entry = self.entries.get_mut(&at)?;
        (entry.used, entry.watched) = (now, true);
        match entry.phase {
            // Its word is of before: it has to give it again when the link is back.
            Phase::Reachable if !link || now >= entry.confirmed + ASSURED => {
                (entry.phase, entry.asked, entry.due) = (Phase::Probing, 0, now);
                (!link).then_some(false)
            }
            Phase::Reachable => Some(true),
            Phase::Failed => {
                if now >= entry.due {
                    (entry.phase, entry.asked, entry.due) = (Phase::Incomplete, 0, now);
                }
                Some(false)
            }
            Phase::Incomplete | Phase::Probing => (!link).then_some(false),
        }
    }
}

impl<P: Pool> Engine<P> {
    /// Looks at all gateways of routes that have several; workers are told when one of them fell silent or came back.
    pub(crate) fn watch_gateways(&mut self, ctx: &mut Context<'_, P>) {
        let mut turned = false;
        for gateway in &ctx.snap.next_hops.gateways {
            let Some(place) = ctx.snap.interfaces.get(usize::from(gateway.interface)) else { continue };
            let (at, link) = ((gateway.interface, gateway.address), ctx.snap.links.is_up(place.port));
            let answers = match self.neighbours.is_fixed(&at) {
                true => Some(link),
                false => self.resolver.watch(at, link, ctx.now),
            };
            if answers.is_some_and(|answers| answers != gateway.answers()) {
                gateway.set_answers(!gateway.answers());
                turned = true;
            }
        }
        if turned {
            ctx.snap.next_hops.turn();
        }
    }
}
