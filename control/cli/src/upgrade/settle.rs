//! Whether a data plane that was started again is as it was before.

use std::time::{Duration, Instant};

use fulcrum_api::control::{ListVipsReply, Status};
use fulcrum_api::convert;
use fulcrum_api::dataplane::NeighbourStatus;
use serde_json::json;
use tokio::time::sleep;

use super::look::{self, Before, Vips};
use super::report::Report;
use super::{LOOK, Upgrade};
use crate::client::Client;
use crate::command::Global;
use crate::failure::Failure;

/// Beside the time for which services serve before VIPs come back.
const COME_BACK: Duration = Duration::from_secs(15);

/// Waits until it is; how it is then.
pub(super) async fn settle(upgrade: &Upgrade<'_>, report: &mut Report<'_, '_>) -> Result<Before, Failure> {
    let begun = Instant::now();
    let timeout = upgrade.arguments.timeout;
    loop {
        // Control may be started again in the same minute.
        let now = look(upgrade).await;
        let missing = match &now {
            Ok((status, neighbours)) => missing(upgrade.before, status, neighbours),
            Err(failure) => Some(failure.to_string()),
        };
        let Some(missing) = missing else {
            let (status, _) = now?;
            return Ok(Before { status, ..Before::default() });
        };
        if begun.elapsed() >= timeout {
            return Err(Failure::Invalid(format!("not well after {} s: {missing}", timeout.as_secs())));
        }
        report.say("waiting", &missing, json!({}))?;
        sleep(LOOK).await;
    }
}

async fn look(upgrade: &Upgrade<'_>) -> Result<(Status, Vec<NeighbourStatus>), Failure> {
    let mut client = upgrade.global.client().await?;
    let status = client.status().await?;
    upgrade.hold(&mut client, status.control.as_ref().map_or(0, |control| control.withdrawn_ms)).await?;
    let neighbours = match &status.dataplane {
        Some(_) => client.neighbours().await?,
        None => Vec::new(),
    };
    Ok((status, neighbours))
}

/// What is not as it was.
fn missing(before: &Before, now: &Status, neighbours: &[NeighbourStatus]) -> Option<String> {
    let was = before.dataplane();
    let link = now.link.clone().unwrap_or_default();
    let Some(dataplane) = &now.dataplane else {
        return Some("the data plane is not back yet".to_owned());
    };
    if dataplane.instance == was.instance {
        return Some("the data plane has not ended yet".to_owned());
    }
    if !link.in_sync || dataplane.generation == 0 {
        let why = if link.last_error.is_empty() { String::new() } else { format!(": {}", link.last_error) };
        return Some(format!("it is not programmed yet{why}"));
    }
    if dataplane.acknowledged != dataplane.generation {
        return Some("workers have not taken over the desired state yet".to_owned());
    }
    let up = |name: &str| dataplane.ports.iter().any(|port| port.name == name && port.link);
    if let Some(port) = was.ports.iter().find(|port| port.link && !up(&port.name)) {
        return Some(format!("port {} has no link", port.name));
    }
    // Whom nobody has asked for yet is asked for by the first packet.
    let lost =
        neighbours.iter().filter(|neighbour| matches!(neighbour.state.as_str(), "failed" | "incomplete"));
    if let Some((interface, address)) =
        lost.filter_map(look::place).find(|place| before.neighbours.contains(place))
    {
        return Some(format!("neighbour {address} on {interface} does not answer"));
    }
    let unknown = |status: &Status| status.control.as_ref().map_or(0, |control| control.servers_unknown);
    if unknown(now) > unknown(&before.status) {
        return Some(format!("{} servers have not been checked yet", unknown(now)));
    }
    None
}

/// Waits until VIPs are where they were.
pub(super) async fn announced(
    global: &Global,
    vips: &Vips,
    report: &mut Report<'_, '_>,
) -> Result<(), Failure> {
    let limit = Duration::from_secs(vips.after.into()) + COME_BACK;
    let begun = Instant::now();
    loop {
        let mut client: Client = global.client().await?;
        let Some(missing) = elsewhere(vips, &client.vips().await?) else {
            let names: Vec<String> = vips.announced.keys().map(ToString::to_string).collect();
            return report.say("announced", &vips.words(), json!({ "vips": names }));
        };
        if begun.elapsed() >= limit {
            return Err(Failure::Invalid(missing));
        }
        report.say("waiting", &missing, json!({}))?;
        sleep(LOOK).await;
    }
}

/// A VIP that is not where it was, in words.
fn elsewhere(vips: &Vips, now: &ListVipsReply) -> Option<String> {
    for vip in &now.vips {
        let Some(were) =
            convert::address("address", &vip.address).ok().and_then(|vip| vips.announced.get_key_value(&vip))
        else {
            continue;
        };
        let gone = vip.places.iter().find(|place| !place.announced && were.1.contains(&place.interface));
        if let Some(place) = gone {
            return Some(format!("{} is not on {} yet: {}", were.0, place.interface, place.why));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use fulcrum_api::control::{ControlStatus, Link, Vip, VipPlace};
    use fulcrum_api::dataplane::{DataplaneStatus, PortStatus};

    use super::*;

    fn status(instance: &str) -> Status {
        let port = PortStatus { name: "wan".into(), link: true, ..PortStatus::default() };
        Status {
            control: Some(ControlStatus::default()),
            link: Some(Link { in_sync: true, ..Link::default() }),
            dataplane: Some(DataplaneStatus {
                instance: instance.into(),
                generation: 3,
                acknowledged: 3,
                ports: vec![port],
                ..DataplaneStatus::default()
            }),
        }
    }

    #[test]
    fn what_was_there_before_has_to_be_there_again() {
        let mut before = Before { status: status("a"), ..Before::default() };
        before.neighbours.insert(("lan".to_owned(), [10, 1, 0, 7].into()));
        let said = |now: &Status, neighbours: &[NeighbourStatus]| {
            missing(&before, now, neighbours).unwrap_or_default()
        };
        assert_eq!(said(&status("b"), &[]), "");
        assert!(said(&status("a"), &[]).contains("has not ended"));
        assert!(said(&Status { dataplane: None, ..status("b") }, &[]).contains("not back"));
        let link = Some(Link { last_error: "it refused".into(), ..Link::default() });
        assert!(said(&Status { link, ..status("b") }, &[]).contains("not programmed yet: it refused"));
        let but = |change: fn(&mut DataplaneStatus)| {
            let mut now = status("b");
            change(now.dataplane.as_mut().unwrap());
            said(&now, &[])
        };
        assert!(but(|now| now.acknowledged = 2).contains("workers"));
        assert!(but(|now| now.ports[0].link = false).contains("port wan"));
        let unknown = Some(ControlStatus { servers_unknown: 2, ..ControlStatus::default() });
        assert!(
            said(&Status { control: unknown, ..status("b") }, &[])
                .contains("2 servers have not been checked")
        );
        let neighbour = |last, state: &str| NeighbourStatus {
            interface: "lan".into(),
            address: vec![10, 1, 0, last],
            state: state.into(),
            ..NeighbourStatus::default()
        };
        assert!(said(&status("b"), &[neighbour(7, "failed")]).contains("10.1.0.7 on lan does not answer"));
        // Who did not answer before need not now.
        assert_eq!(said(&status("b"), &[neighbour(8, "failed"), neighbour(7, "reachable")]), "");
    }

    #[test]
    fn vips_have_to_come_back_to_their_places() {
        let mut vips = Vips::default();
        vips.announced.insert([10, 77, 0, 9].into(), ["lo".to_owned()].into());
        let listed = |last, announced| ListVipsReply {
            vips: vec![Vip {
                address: vec![10, 77, 0, last],
                places: vec![VipPlace { interface: "lo".into(), announced, why: "no data plane".into() }],
                ..Vip::default()
            }],
            ..ListVipsReply::default()
        };
        assert_eq!(elsewhere(&vips, &listed(9, true)), None);
        assert_eq!(elsewhere(&vips, &listed(9, false)).unwrap(), "10.77.0.9 is not on lo yet: no data plane");
        assert_eq!(elsewhere(&vips, &listed(8, false)), None, "it was not there before either");
    }
}
