//! What is looked at before anything is done: versions, how both processes are, and who else may carry the traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use fulcrum_api::control::{ListVipsReply, Status};
use fulcrum_api::convert;
use fulcrum_api::dataplane::{DataplaneStatus, NeighbourStatus};
use fulcrum_api::version::too_far;
use fulcrum_model::State;
use tokio::process::Command;

use crate::client::Client;
use crate::failure::Failure;

/// Things of one kind that are named at most.
const MANY: usize = 4;

/// How it was before.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    pub(super) status: Status,
    pub(super) vips: Vips,
    /// Next hops that answered.
    pub(super) neighbours: BTreeSet<(String, IpAddr)>,
}

/// VIPs by who can carry their traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Vips {
    /// On interfaces of the host, where routers learn of them: others carry their traffic when they go.
    pub(super) announced: BTreeMap<IpAddr, BTreeSet<String>>,
    /// Held and announced by nobody, with services by mark: their traffic comes here and nowhere else.
    pub(super) alone: Vec<String>,
    /// For so long services serve before their VIPs come back.
    pub(super) after: u32,
}

/// Looks at everything.
pub(super) async fn before(client: &mut Client) -> Result<Before, Failure> {
    let status = client.status().await?;
    let vips = vips(&client.vips().await?, &client.state().await?);
    let neighbours = match &status.dataplane {
        Some(_) => answering(&client.neighbours().await?),
        None => BTreeSet::new(),
    };
    Ok(Before { status, vips, neighbours })
}

/// Sorts VIPs by who can carry their traffic.
fn vips(listed: &ListVipsReply, state: &State) -> Vips {
    let mut vips = Vips::default();
    for vip in &listed.vips {
        let Ok(address) = convert::address("address", &vip.address) else { continue };
        let on: BTreeSet<String> =
            vip.places.iter().filter(|place| place.announced).map(|place| place.interface.clone()).collect();
        if !on.is_empty() {
            vips.announced.insert(address, on);
        } else if vip.taken && vip.places.is_empty() {
            vips.alone.push(address.to_string());
        }
    }
    let marks = state.services.iter().filter(|service| service.key.address().is_none());
    vips.alone.extend(marks.map(|service| service.key.to_string()));
    let announced = |vip: Option<IpAddr>| vip.is_some_and(|vip| vips.announced.contains_key(&vip));
    let their = state.services.iter().filter(|service| announced(service.key.address()));
    let after = their.map(|service| service.announcement.after).max();
    vips.after = after.unwrap_or(0);
    vips
}

/// Neighbours whose addresses are known.
pub(super) fn answering(neighbours: &[NeighbourStatus]) -> BTreeSet<(String, IpAddr)> {
    let known =
        neighbours.iter().filter(|neighbour| !neighbour.mac.is_empty() && neighbour.state != "conflict");
    known.filter_map(place).collect()
}

/// Where a neighbour is.
pub(super) fn place(neighbour: &NeighbourStatus) -> Option<(String, IpAddr)> {
    let address = convert::address("address", &neighbour.address).ok()?;
    Some((neighbour.interface.clone(), address))
}

impl Before {
    pub(super) fn dataplane(&self) -> DataplaneStatus {
        self.status.dataplane.clone().unwrap_or_default()
    }

    /// Why it should not be begun now.
    pub(super) fn objection(&self) -> Option<String> {
        let link = self.status.link.clone().unwrap_or_default();
        let Some(dataplane) = &self.status.dataplane else {
            let socket = link.socket;
            return Some(format!(
                "the data plane is not connected ({socket}): there is nothing to be drained; start fulcrum-dataplane"
            ));
        };
        if !link.in_sync {
            return Some(format!("the data plane does not hold the desired state: {}", link.last_error));
        }
        if dataplane.acknowledged != dataplane.generation {
            return Some("workers of the data plane have not taken over the desired state yet".to_owned());
        }
        if !dataplane.ports.is_empty() && dataplane.ports.iter().all(|port| !port.link) {
            return Some("no port of the data plane has a link".to_owned());
        }
        None
    }
}

impl Vips {
    /// The announced ones in words.
    pub(super) fn words(&self) -> String {
        let one = |(vip, on): (&IpAddr, &BTreeSet<String>)| {
            let on: Vec<&str> = on.iter().map(String::as_str).collect();
            format!("{vip} on {}", on.join(", "))
        };
        some(&self.announced.iter().map(one).collect::<Vec<_>>())
    }

    /// What is said when nobody else can carry some of the traffic.
    pub(super) fn warning(&self) -> Option<String> {
        if self.alone.is_empty() {
            return None;
        }
        Some(format!(
            "nobody else can be told to carry the traffic of {}: all of its connections are cut, and none comes about until \
             the data plane is back. Move it first (announce = \"healthy\", or keepalived), or say --force",
            some(&self.alone)
        ))
    }
}

/// Some of many names.
pub(super) fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(MANY);
    let listed = names.iter().take(MANY).cloned().collect::<Vec<_>>().join("; ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

/// The version that a process would have if it were started again, by the file that it was started from; `None` where
/// that cannot be seen from here.
pub(super) async fn installed(program: &str, pid: u64) -> Option<(PathBuf, String)> {
    let path = [executable(program, pid), beside(program), Some(Path::new("/usr/sbin").join(program))];
    let path = path.into_iter().flatten().find(|path| path.is_file())?;
    let output = Command::new(&path).arg("--version").output().await.ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let version = said.split_whitespace().last()?.to_owned();
    output.status.success().then_some((path, version))
}

/// The file that a process was started from; one that was replaced since is where it was.
fn executable(program: &str, pid: u64) -> Option<PathBuf> {
    // The number may be another process's, in another namespace. // Linux: TASK_COMM_LEN
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if name.trim() != &program[..program.len().min(15)] {
        return None;
    }
    let link = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let text = link.to_str()?;
    Some(PathBuf::from(text.strip_suffix(" (deleted)").unwrap_or(text)))
}

fn beside(program: &str) -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.with_file_name(program))
}

/// Versions in words, or why they do not go together: what is started has to go together with what goes on.
pub(super) fn versions(starts: (&str, &str, Option<&str>), goes_on: (&str, &str)) -> Result<String, String> {
    let (name, running, installed) = starts;
    let (other, its) = goes_on;
    let next = installed.unwrap_or(running);
    if too_far(next, its) {
        return Err(format!(
            "{name} {next} is installed and {other} {its} runs: at most one minor version may be between the two, or the \
             data plane would not be programmed; take the versions between one after the other"
        ));
    }
    let what = match installed {
        Some(installed) if installed == running => format!("{running} runs and is installed"),
        Some(installed) => format!("{running} runs, {installed} is installed"),
        None => format!("{running} runs; what is installed cannot be seen from here"),
    };
    Ok(format!("{name} {what}; {other} {its}"))
}

#[cfg(test)]
mod tests {
    use fulcrum_api::control::{Link, Vip, VipPlace};
    use fulcrum_api::dataplane::PortStatus;
    use fulcrum_model::file::Config;

    use super::*;

    #[test]
    fn vips_are_sorted_by_who_else_may_carry_their_traffic() {
        let text = "[[service]]\naddress = \"10.77.0.9:80\"\nprotocol = \"tcp\"\nannounce = \"healthy\"\nannounce-after = 9\n\
                    [[service]]\nmark = 7\n";
        let state = Config::parse("t", text).unwrap().state;
        let vip = |last, taken, announced: Option<bool>| Vip {
            address: vec![10, 77, 0, last],
            taken,
            places: announced
                .into_iter()
                .map(|announced| VipPlace { interface: "lo".into(), announced, ..Default::default() })
                .collect(),
            ..Vip::default()
        };
        let listed = vec![
            vip(9, true, Some(true)),
            vip(10, true, None),
            vip(11, false, None),
            vip(12, true, Some(false)),
        ];
        let vips = vips(&ListVipsReply { vips: listed, ..Default::default() }, &state);
        assert_eq!(vips.words(), "10.77.0.9 on lo");
        assert_eq!(vips.alone, ["10.77.0.10", "fwm 7"]);
        assert_eq!(vips.after, 9);
        assert!(
            vips.warning()
                .unwrap()
                .contains("the traffic of 10.77.0.10; fwm 7: all of its connections are cut")
        );
        assert_eq!(Vips { alone: Vec::new(), ..vips }.warning(), None);
    }

    #[test]
    fn what_is_not_well_is_not_upgraded() {
        let port = |link| PortStatus { link, ..PortStatus::default() };
        let good = Status {
            link: Some(Link { in_sync: true, ..Link::default() }),
            dataplane: Some(DataplaneStatus { ports: vec![port(true), port(false)], ..Default::default() }),
            ..Status::default()
        };
        let said = |status: &Status| {
            Before { status: status.clone(), ..Before::default() }.objection().unwrap_or_default()
        };
        assert_eq!(said(&good), "");
        assert!(said(&Status { dataplane: None, ..good.clone() }).contains("not connected"));
        let link = Some(Link { last_error: "it refused".into(), ..Link::default() });
        assert!(said(&Status { link, ..good.clone() }).contains("desired state: it refused"));
        let mut other = good.clone();
        other.dataplane.as_mut().unwrap().ports = vec![port(false)];
        assert!(said(&other).contains("no port"));
        other = good;
        other.dataplane.as_mut().unwrap().generation = 4;
        assert!(said(&other).contains("have not taken over"));
    }

    #[test]
    fn versions_have_to_go_together() {
        let control = ("fulcrum-control", "1.3.0");
        assert_eq!(
            versions(("fulcrum-dataplane", "1.2.0", Some("1.3.0")), control).unwrap(),
            "fulcrum-dataplane 1.2.0 runs, 1.3.0 is installed; fulcrum-control 1.3.0"
        );
        assert!(versions(("fulcrum-dataplane", "1.2.0", None), control).unwrap().contains("cannot be seen"));
        let said = versions(("fulcrum-dataplane", "1.3.0", Some("1.5.0")), control).unwrap_err();
        assert!(
            said.contains("fulcrum-dataplane 1.5.0 is installed and fulcrum-control 1.3.0 runs"),
            "{said}"
        );
    }
}
