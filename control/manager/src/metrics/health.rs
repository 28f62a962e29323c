//! Whether the director does what it is meant to do, in a few words.

use serde::Serialize;

use super::scrape::Source;

/// How the director is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Nothing is in `problems`.
    pub healthy: bool,
    /// Why packets are not treated as they should be.
    pub problems: Vec<String>,
    /// What else an operator should look at.
    pub warnings: Vec<String>,
}

/// How it is, as far as is known: nobody is asked.
pub async fn of(source: &Source) -> Health {
    let tally = source.verdicts.at(0).await.tally();
    let link = source.link.borrow();
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let why = link.error.as_ref().map_or_else(String::new, |(error, _)| format!(": {error}"));
    match &link.status {
        None => problems.push(format!("the data plane is not connected{why}")),
        Some(status) => {
            if !link.in_sync {
                problems.push(format!("the data plane does not hold the desired state{why}"));
            }
            let down = |port: &&fulcrum_api::dataplane::PortStatus| !port.link;
            let names: Vec<String> = status.ports.iter().filter(down).map(|port| port.name.clone()).collect();
            match names.len() {
                0 => {}
                all if all == status.ports.len() => problems.push("no port has a link".to_owned()),
                _ => warnings.push(format!("without a link: {}", names.join(", "))),
            }
            warnings.extend(status.warnings.iter().cloned());
        }
    }
    for (count, what) in [
        (tally.quorums_lost, "services that have lost their quorum"),
        (tally.down, "servers that are down"),
        (tally.unknown, "servers that cannot be checked"),
    ] {
        if count > 0 {
            warnings.push(format!("{what}: {count}"));
        }
    }
    if let Some((_, why)) = source.announcements.withdrawal() {
        warnings.push(format!("all announcements are withdrawn: {why}"));
    }
    let config_error = source.config_error.borrow();
    if !config_error.is_empty() {
        warnings.push(format!("the configuration file is not in effect: {}", *config_error));
    }
    Health { healthy: problems.is_empty(), problems, warnings }
}
