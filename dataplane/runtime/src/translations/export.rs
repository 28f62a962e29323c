//! Sends translations to the collector, a tenth of a second after they were at most.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fulcrum_director::Nanos;
use fulcrum_director::counters::Counter;
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Inlet;
use super::ipfix::Encoder;
use crate::worker::Clock;

/// Between two looks at what workers have told.
const LOOK: Duration = Duration::from_millis(100);
/// Between two times that a collector is told the templates, which it may have missed. // RFC 7011, 8.4
const TEMPLATES: Duration = Duration::from_secs(60);
/// Records of a worker in one look, so that the others get their turn.
const TURN: usize = 8192;

/// How the export goes, for the status.
#[derive(Debug)]
pub(crate) struct Collector {
    /// Where it is.
    pub(crate) address: SocketAddr,
    /// Records sent.
    pub(crate) exported: Counter,
    /// Datagrams that the system did not take.
    pub(crate) failed: Counter,
    lost: Vec<Arc<Counter>>,
}

impl Collector {
    /// Records for which workers found no room.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.iter().map(|lost| lost.get()).sum()
    }
}

/// The one who sends.
#[derive(Debug)]
pub(crate) struct Exporter {
    collector: Arc<Collector>,
    inlets: Vec<Inlet>,
    clock: Clock,
    encoder: Encoder,
    told: u64,
}

impl Exporter {
    pub(crate) fn new(address: SocketAddr, domain: u32, inlets: Vec<Inlet>, clock: Clock) -> Exporter {
        let lost = inlets.iter().map(|inlet| Arc::clone(&inlet.lost)).collect();
        let (exported, failed) = Default::default();
        let collector = Arc::new(Collector { address, exported, failed, lost });
        Exporter { collector, inlets, clock, encoder: Encoder::new(domain), told: 0 }
    }

    pub(crate) fn collector(&self) -> &Arc<Collector> {
        &self.collector
    }

    /// Sends until it is dropped. Needs a tokio runtime.
    pub(crate) async fn run(mut self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut socket = None;
        let mut templates = Instant::now();
        loop {
            looks.tick().await;
            if socket.is_none() {
                socket = connect(self.collector.address).await;
                templates = Instant::now();
            }
            let now = SystemTime::now();
            let mut messages = Vec::new();
            if templates <= Instant::now() {
                templates = Instant::now() + TEMPLATES;
                messages.push(self.encoder.templates(now));
            }
            self.gather(now, &mut messages);
            for message in messages {
                let sent = match &socket {
                    Some(socket) => socket.send(&message).await.is_ok(),
                    None => false,
                };
                self.collector.failed.add(u64::from(!sent));
            }
            let lost = self.collector.lost();
            if lost > self.told {
                tracing::warn!(lost = lost - self.told, "translations came faster than they could be told");
                self.told = lost;
            }
        }
    }

    /// Makes messages of what workers have told.
    fn gather(&mut self, now: SystemTime, messages: &mut Vec<Vec<u8>>) {
        let ticks = self.clock.now();
        for inlet in &mut self.inlets {
            for _ in 0..TURN {
                let Ok(translation) = inlet.ring.pop() else { break };
                let ago: Nanos = ticks.saturating_sub(translation.at);
                let at = now.checked_sub(Duration::from_nanos(ago)).unwrap_or(now);
                messages.extend(self.encoder.add(&translation, at, now));
                self.collector.exported.add(1);
            }
        }
        messages.extend(self.encoder.rest(now));
    }
}

async fn connect(address: SocketAddr) -> Option<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let made = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await.map(|()| socket)
    };
    match made.await {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::warn!(%address, %error, "no way to the collector of translations");
            None
        }
    }
}
