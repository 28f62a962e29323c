//! What still comes to VIPs that are withdrawn.

use std::time::{Duration, Instant};

use fulcrum_api::dataplane::CountersChunk;
use fulcrum_model::ServiceKey;
use serde_json::json;
use tokio::time::sleep;

use super::look::Vips;
use super::report::Report;
use crate::client::Client;
use crate::failure::Failure;
use crate::table::counted;

/// Between two looks.
const SECOND: Duration = Duration::from_secs(1);

/// When nothing has come for so long, nothing comes: routers have learned it.
const QUIET: Duration = Duration::from_secs(3);

/// What was counted of VIPs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Traffic {
    /// Packets from clients.
    packets: u64,
    /// Connections that are established.
    connections: u64,
}

/// Waits until nothing comes to the announced VIPs any more, for `limit` at most.
pub(super) async fn drain(
    client: &mut Client,
    vips: &Vips,
    limit: Duration,
    report: &mut Report<'_, '_>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut last = traffic(&client.counters().await?, vips);
    let mut quiet_since = begun;
    loop {
        let left = limit.saturating_sub(begun.elapsed());
        let quiet = quiet_since.elapsed() >= QUIET;
        if quiet || left.is_zero() {
            let connections = counted(last.connections, "connection");
            let text = match quiet {
                true => format!("nothing comes any more; {connections} without packets"),
                false => format!("time is over; {connections} are cut"),
            };
            return report.say("drained", &text, json!({ "connections": last.connections, "quiet": quiet }));
        }
        sleep(SECOND.min(left)).await;
        let now = traffic(&client.counters().await?, vips);
        let packets = now.packets.saturating_sub(last.packets);
        if packets > 0 {
            quiet_since = Instant::now();
        }
        last = now;
        let connections = counted(now.connections, "connection");
        let text = format!("{connections}, {packets} packets in the last second");
        report.say("draining", &text, json!({ "connections": now.connections, "packets": packets }))?;
    }
}

fn traffic(counters: &CountersChunk, vips: &Vips) -> Traffic {
    let mut sum = Traffic::default();
    for service in &counters.services {
        let key = service.key.clone().and_then(|key| ServiceKey::try_from(key).ok());
        let vip = key.and_then(|key| key.address());
        if !vip.is_some_and(|vip| vips.announced.contains_key(&vip)) {
            continue;
        }
        sum.packets += service.counters.unwrap_or_default().in_packets;
        sum.connections += service.servers.iter().map(|server| server.active).sum::<u64>();
    }
    sum
}

#[cfg(test)]
mod tests {
    use fulcrum_api::dataplane::{Counters, ServerCounters, ServiceCounters};
    use fulcrum_model::Protocol;

    use super::*;

    #[test]
    fn what_comes_to_withdrawn_vips_is_counted_and_nothing_else() {
        let service = |last, packets, active| ServiceCounters {
            key: Some((&ServiceKey::new(Protocol::Tcp, [10, 77, 0, last].into(), 80)).into()),
            counters: Some(Counters { in_packets: packets, ..Counters::default() }),
            servers: vec![ServerCounters { active, ..ServerCounters::default() }; 2],
        };
        let counters = CountersChunk {
            services: vec![service(9, 5, 1), service(10, 100, 7), service(9, 3, 2)],
            total: None,
        };
        let mut vips = Vips::default();
        assert_eq!(traffic(&counters, &vips), Traffic::default());
        vips.announced.insert([10, 77, 0, 9].into(), ["lo".to_owned()].into());
        assert_eq!(traffic(&counters, &vips), Traffic { packets: 8, connections: 6 });
    }
}
