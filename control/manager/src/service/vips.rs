//! What is asked about VIPs, and what others are told of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use fulcrum_api::control as wire;
use fulcrum_api::status::clipped;
use fulcrum_api::{BadMessage, convert};
use fulcrum_log::AUDIT;
use fulcrum_model::State;
use tonic::Status;
use tracing::info;

use super::{Service, audit};
use crate::access::Who;
use crate::vip::announce::{Board, Standing};
use crate::vip::possession::{Possession, VipError, vips_of};

/// For so long announcements can be withdrawn by one request.
const LONGEST_WITHDRAWAL: Duration = Duration::from_secs(24 * 3600);

/// Characters of a reason at most.
const REASON: usize = 200;

impl From<VipError> for Status {
    fn from(error: VipError) -> Status {
        match error {
            VipError::Unknown(..) => Status::not_found(clipped(error.to_string())),
            VipError::Write { .. } => Status::internal(format!("not accepted: {error}")),
        }
    }
}

/// All VIPs of a state, and how they are.
pub(super) fn list(state: &State, possession: &Possession, board: &Board) -> wire::ListVipsReply {
    let mut vips: BTreeMap<IpAddr, wire::Vip> = BTreeMap::new();
    for vip in state.services.iter().filter_map(|service| service.key.address()) {
        let entry = vips.entry(vip).or_insert_with(|| {
            let saying = possession.saying(vip);
            wire::Vip {
                address: convert::address_bytes(vip),
                taken: possession.has(vip),
                since_ms: saying.as_ref().map(|saying| saying.since_ms),
                by: saying.map(|saying| saying.by).unwrap_or_default(),
                ..wire::Vip::default()
            }
        });
        entry.services += 1;
    }
    for ((interface, vip), standing) in board.places() {
        let Some(entry) = vips.get_mut(&vip) else { continue };
        let (announced, why) = match standing {
            Standing::Announced => (true, String::new()),
            Standing::Withdrawn(why) => (false, why),
        };
        entry.places.push(wire::VipPlace { interface, announced, why });
    }
    let withdrawal = board.withdrawal().map(|(left, why)| wire::Withdrawal { left_ms: millis(left), why });
    wire::ListVipsReply { vips: vips.into_values().collect(), withdrawal, manual: possession.manual() }
}

/// Puts the numbers of VIPs into what is told of control.
pub(super) fn count(
    control: &mut wire::ControlStatus,
    state: &State,
    possession: &Possession,
    board: &Board,
) {
    let vips = vips_of(state);
    let places = board.places();
    let on: BTreeSet<IpAddr> = places
        .iter()
        .filter(|(_, standing)| **standing == Standing::Announced)
        .map(|((_, vip), _)| *vip)
        .collect();
    let off: BTreeSet<IpAddr> = places.keys().map(|(_, vip)| *vip).filter(|vip| !on.contains(vip)).collect();
    control.vips = vips.len() as u64;
    control.vips_released = vips.iter().filter(|vip| !possession.has(**vip)).count() as u64;
    control.vips_announced = on.len() as u64;
    control.vips_unannounced = off.len() as u64;
    if let Some((left, why)) = board.withdrawal() {
        (control.withdrawn_ms, control.withdrawn_why) = (millis(left), why);
    }
}

impl Service {
    pub(super) async fn take_or_release(
        &self,
        who: &Who,
        request: wire::SetVipsRequest,
    ) -> Result<wire::SetVipsReply, Status> {
        let wire::SetVipsRequest { addresses, taken } = request;
        let vips = addresses.iter().enumerate();
        let vips = vips.map(|(at, bytes)| convert::address(&format!("addresses[{at}]"), bytes));
        let vips: Vec<IpAddr> = vips.collect::<Result<_, BadMessage>>()?;
        let given = self.possession.say(&vips, taken, &who.to_string())?;
        let verb = if taken { "VIP taken" } else { "VIP released" };
        audit(who, given.number, vips.iter().map(|vip| format!("{verb}: {vip}")));
        Ok(wire::SetVipsReply { delivery: Some(self.arrival(given.fingerprint).await) })
    }

    pub(super) async fn withdraw(&self, who: &Who, request: wire::WithdrawVipsRequest) {
        let time = Duration::from_millis(request.milliseconds).min(LONGEST_WITHDRAWAL);
        let why: String = request.why.chars().filter(|c| !c.is_control()).take(REASON).collect();
        let why = match why.is_empty() {
            true => format!("by {who}"),
            false => format!("{why}, by {who}"),
        };
        let before = self.announcements.withdrawal().map(|(_, why)| why);
        // Who goes on withdrawing them says nothing new.
        if time.is_zero() {
            info!(target: AUDIT, who = %who.name, from = %who.from, "withdrawal of announcements ended");
        } else if before.as_ref() != Some(&why) {
            info!(target: AUDIT, who = %who.name, from = %who.from, ?time, why, "announcements withdrawn");
        }
        self.announcements.withdraw(time, why).await;
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
