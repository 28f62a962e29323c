//! Ports of several devices: opened by DPDK's bonding driver, told of links that it does not see, watched.

use fulcrum_dpdk::{BondMode, MemberState, PortInfo, Queues, Stats};
use fulcrum_model as model;

use crate::device::Device;
use crate::host::{self, Taken, Use};
use crate::plan::Footing;
use crate::ports::{
    COMPLETED, OpenError, Opener, Port, af_packet, dpdk, has_all_queues, multicast, patient, queue_counts,
};

/// A device of a bond.
#[derive(Debug)]
pub(crate) struct Member {
    /// As configured.
    pub(crate) device: String,
    /// The Linux interface that it stands on, whose link DPDK does not see.
    pub(crate) taken: Option<Taken>,
    /// Its link, as the bond knows it.
    up: bool,
    /// Whether it carried traffic at the last look.
    active: bool,
}

/// A member now.
#[derive(Debug)]
pub(crate) struct MemberNow<'a> {
    pub(crate) device: &'a str,
    pub(crate) driver: String,
    pub(crate) mac: [u8; 6],
    pub(crate) up: bool,
    pub(crate) state: MemberState,
    pub(crate) stats: Stats,
}

impl Opener<'_> {
    /// Opens the members and makes one port of them.
    pub(crate) fn open_bond(
        &mut self,
        number: usize,
        config: &model::Port,
        bond: &model::Bond,
        on: &[Footing],
        mtu: u16,
    ) -> Result<(Port, Queues), OpenError> {
        let (mut members, mut notes) = (Vec::new(), Vec::new());
        let opened = self
            .open_members(number, config, on, mtu, &mut members, &mut notes)
            .and_then(|ports| self.join(number, config, bond, ports, mtu));
        let (mut port, queues) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let taken = members.into_iter().filter_map(|member: Member| member.taken);
                taken.for_each(|taken| taken.give_back(self.ledger));
                return Err(error);
            }
        };
        let links: Vec<_> = on.iter().filter_map(|on| on.link.as_ref()).collect();
        // The bond has given its members the largest MTU that their driver speaks of, which is not what they can do.
        for link in &links {
            if let Err(error) = host::set_mtu(link.index, mtu.into()) {
                notes.push(format!("{} keeps its MTU: {error}", link.name));
            }
        }
        port.partial_checksums = !links.is_empty();
        notes.extend(port.partial_checksums.then(|| COMPLETED.to_owned()));
        notes.extend(match bond.mode {
            // Members keep MAC addresses of their own, and packets to the bond's come by any of them.
            model::BondMode::Lacp { .. } => {
                port.port.set_promiscuous().err().map(|error| {
                    format!("may not receive frames for its MAC address by every member: {error}")
                })
            }
            model::BondMode::ActiveBackup { .. } if links.len() < on.len() => multicast(&mut port.port),
            model::BondMode::ActiveBackup { .. } => None,
        });
        port.notes.extend(notes);
        port.members = members;
        Ok((port, queues))
    }

    fn open_members(
        &mut self,
        number: usize,
        config: &model::Port,
        on: &[Footing],
        mtu: u16,
        members: &mut Vec<Member>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<fulcrum_dpdk::Port>, OpenError> {
        // Members have the same number of queues, and others than interfaces have their own.
        let interfaces = on.iter().all(|on| matches!(on.device, Device::Interface(_)));
        let queues = if interfaces { self.workers } else { 1 };
        let mut ports = Vec::new();
        for (nth, Footing { text: device, device: kind, link }) in on.iter().enumerate() {
            let (how, text) = match (kind, link) {
                (Device::Virtual { driver, text, .. }, Some(link)) if driver == "net_af_xdp" => {
                    (Use::AfXdp, patient(text, Use::AfXdp, link))
                }
                (Device::Interface(name), _) => {
                    (Use::AfPacket, af_packet(&format!("{number}_{nth}"), name, queues, mtu))
                }
                (kind, _) => (Use::AfPacket, kind.to_string()),
            };
            let mut member = Member { device: device.clone(), taken: None, up: true, active: false };
            if let Some(link) = link {
                let (taken, more) = Taken::take(link, how, true, self.ledger).map_err(|source| {
                    OpenError::Host { port: config.name.clone(), device: link.name.clone(), source }
                })?;
                member.taken = Some(taken);
                notes.extend(more);
            }
            members.push(member);
            ports.push(fulcrum_dpdk::Port::open(self.eal, &text).map_err(|source| dpdk(config, source))?);
        }
        Ok(ports)
    }

    fn join(
        &mut self,
        number: usize,
        config: &model::Port,
        bond: &model::Bond,
        ports: Vec<fulcrum_dpdk::Port>,
        mtu: u16,
    ) -> Result<(Port, Queues), OpenError> {
        let refused = |source| dpdk(config, source);
        let infos =
            ports.iter().map(fulcrum_dpdk::Port::info).collect::<Result<Vec<_>, _>>().map_err(refused)?;
        let Some(counts) = shared_queues(&infos, self.workers) else {
            let counts: Vec<String> = infos.iter().map(|info| info.max_rx_queues.to_string()).collect();
            return Err(OpenError::Queues { port: config.name.clone(), counts: counts.join(" and ") });
        };
        let mac = config.mac.map_or_else(|| infos.first().map_or([0; 6], |info| info.mac), |mac| mac.0);
        let mode = match &bond.mode {
            model::BondMode::ActiveBackup { primary } => BondMode::ActiveBackup(
                primary.as_ref().and_then(|primary| bond.members.iter().position(|member| member == primary)),
            ),
            model::BondMode::Lacp { hash } => BondMode::Lacp(match hash {
                model::BondHash::Layer2 => "l2",
                model::BondHash::Layer23 => "l23",
                model::BondHash::Layer34 => "l34",
            }),
        };
        let port = fulcrum_dpdk::Port::bond(self.eal, number, mode, mac, mtu, ports).map_err(refused)?;
        self.begin(number, config, port, counts, mtu).map_err(refused)
    }
}

/// Receive and transmit queues that members can have in common; some drivers want all that they have to be polled.
fn shared_queues(infos: &[PortInfo], workers: usize) -> Option<(u16, u16)> {
    let counts = |info: &PortInfo| queue_counts(info, workers, info.rss);
    let mut fixed = infos.iter().filter(|info| has_all_queues(&info.driver)).map(|info| counts(info).0);
    if let Some(count) = fixed.next() {
        let fits = infos.iter().all(|info| info.max_rx_queues.min(info.max_tx_queues) >= count);
        return (fits && fixed.all(|other| other == count)).then_some((count, count));
    }
    infos.iter().map(counts).reduce(|all, its| (all.0.min(its.0), all.1.min(its.1)))
}

impl Port {
    /// Tells a bond of links that it does not see; whether its addresses are reached by another way than at the last
    /// look, of which neighbours and switches have to hear.
    pub(crate) fn look_after(&mut self) -> bool {
        let carried = self.members.iter().any(|member| member.active);
        let mut another = false;
        for (nth, member) in self.members.iter_mut().enumerate() {
            let up = match &member.taken {
                Some(taken) => taken.now().0,
                None => self.port.members().get(nth).is_some_and(|port| port.link().up),
            };
            // One that could not be told is told at the next look.
            if up != member.up && (member.taken.is_none() || self.port.tell_link(nth, up)) {
                member.up = up;
                let word = if up { "up" } else { "down" };
                tracing::warn!(port = self.name, member = member.device, "the member's link is {word}");
            }
            let active = self.port.member_state(nth).active == Some(true);
            if active != member.active {
                let word = if active { "carries traffic" } else { "carries no traffic" };
                tracing::info!(port = self.name, member = member.device, "the member {word}");
            }
            another |= active && !member.active;
            member.active = active;
        }
        let backup = self.bond.as_ref().map(|bond| matches!(bond.mode, model::BondMode::ActiveBackup { .. }));
        another && (backup == Some(true) || !carried)
    }

    /// Whether a bond carries traffic; `up` is what its driver says of its link.
    pub(crate) fn carries(&self, up: bool) -> bool {
        let states = (0..self.members.len()).map(|nth| self.port.member_state(nth).active);
        let told: Option<Vec<bool>> = states.collect();
        told.map_or_else(
            || up && self.members.iter().any(|member| member.up),
            |active| active.contains(&true),
        )
    }

    /// The members of a bond.
    pub(crate) fn members_now(&self) -> Vec<MemberNow<'_>> {
        let mut all = Vec::new();
        for (nth, (member, port)) in self.members.iter().zip(self.port.members()).enumerate() {
            let (driver, mac) = port.info().map(|info| (info.driver, info.mac)).unwrap_or_default();
            all.push(MemberNow {
                device: &member.device,
                driver,
                mac,
                up: member.up,
                state: self.port.member_state(nth),
                stats: port.stats().unwrap_or_default(),
            });
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports;

    fn info(driver: &str, queues: u16, rss: bool) -> PortInfo {
        ports::tests::info(driver, queues, queues, rss)
    }

    #[test]
    fn members_share_their_queues() {
        let shared = |infos: &[PortInfo]| shared_queues(infos, 3);
        let (packet, ice) =
            (|queues| info("net_af_packet", queues, false), |queues, rss| info("net_ice", queues, rss));
        assert_eq!(shared(&[packet(3), packet(3)]), Some((3, 3)));
        assert_eq!(shared(&[packet(1), ice(64, true)]), Some((1, 1)));
        assert_eq!(shared(&[packet(1), packet(2)]), None, "one would not be polled");
        assert_eq!(shared(&[packet(4), ice(2, true)]), None);
        assert_eq!(shared(&[ice(64, true), ice(2, true)]), Some((2, 2)));
        assert_eq!(shared(&[ice(64, true), ice(64, false)]), Some((1, 3)));
    }
}
