//! Whether the director has its VIPs, and routers know.

use std::net::IpAddr;

use fulcrum_api::control::{Vip, VipPlace};
use fulcrum_api::convert;

use super::{Facts, Finding, Level};
use crate::vip;

/// VIPs that are released, withdrawn, or not announced though they should be.
pub(super) fn vips(facts: &Facts) -> Vec<Finding> {
    let manual = facts.vips.manual;
    let mut findings = Vec::new();
    if let Some(withdrawal) = &facts.vips.withdrawal {
        findings.push(Finding::new(
            Level::Warning,
            "VIPs",
            vip::withdrawn(withdrawal.left_ms, &withdrawal.why),
            "when what they were withdrawn for is over: fulcrum vip withdraw --for 0s",
        ));
    }
    for vip in &facts.vips.vips {
        let Ok(address) = convert::address("address", &vip.address) else { continue };
        match vip.taken {
            false => findings.push(released(address, vip, manual)),
            // That all are withdrawn is said once.
            true if facts.vips.withdrawal.is_some() => {}
            true => findings.extend(unannounced(address, &vip.places)),
        }
    }
    findings
}

fn released(address: IpAddr, vip: &Vip, manual: bool) -> Finding {
    let what = format!("{}: what comes to it is dropped as vip-released", vip::released(vip, manual));
    // One of a pair always has released what the other one has.
    let (level, advice) = match manual {
        true => (Level::Advice, "nothing, if another director has it; else see what keepalived says"),
        false => (Level::Warning, "nothing, if another director has it; else fulcrum vip take"),
    };
    let advice = if manual { advice.to_owned() } else { format!("{advice} {address}") };
    Finding::new(level, format!("VIP {address}"), what, advice)
}

/// It should be on interfaces of the host, and is on none.
fn unannounced(address: IpAddr, places: &[VipPlace]) -> Option<Finding> {
    let place = places.first().filter(|_| places.iter().all(|place| !place.announced))?;
    let VipPlace { interface, why, .. } = place;
    Some(Finding::new(
        Level::Warning,
        format!("VIP {address}"),
        format!("not on {interface}, so routers do not know of it: {why}"),
        "it comes when that is over; `fulcrum vip list` shows all",
    ))
}
