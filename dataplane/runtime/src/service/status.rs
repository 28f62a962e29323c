//! How the data plane is, in one message.

use fulcrum_api::dataplane::{
    BondMember, BondStatus, DataplaneStatus, ExceptionClass, ExceptionStatus, FramePool, GatewayStatus,
    GetStatusRequest, LocalPoolUse, NamedCount, PortStatus, PortSteering, SnatUse, TranslationLog, Worker,
};
use fulcrum_director::counters::ClassCells;
use fulcrum_director::exception::Class;
use fulcrum_director::snapshot::{Interface, LocalRange, Service, SnatRule};
use fulcrum_director::{Event, Reason, WorkerCounters};
use fulcrum_dpdk::MemberState;
use fulcrum_model::{Family, Mac, Protocol, ServiceKey};

use crate::bond::MemberNow;
use crate::control::{Control, WorkerLink};
use crate::deal;
use crate::ports::Port;
use crate::steering::Way;

/// The data plane now.
pub(super) fn status(control: &mut Control, asked: &GetStatusRequest) -> DataplaneStatus {
    control.pump();
    let (generation, fingerprint, acknowledged) = control.held();
    let identity = &control.identity;
    let workers = control.workers.iter().map(|worker| worker.counters.as_ref());
    let counters: Vec<&WorkerCounters> = workers.chain([control.host.counters.as_ref()]).collect();
    DataplaneStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id().into(),
        uptime_ms: u64::try_from(identity.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        generation,
        acknowledged,
        fingerprint,
        instance: identity.instance.clone(),
        dpdk: identity.dpdk.clone(),
        hugepages: identity.hugepages,
        idle: identity.idle.to_owned(),
        workers: control.workers.iter().enumerate().map(|(id, link)| worker(control, id, link)).collect(),
        ports: control
            .ports
            .iter()
            .enumerate()
            .map(|(number, open)| port(control, number, open, &counters))
            .collect(),
        drops: named(Reason::ALL, Reason::name, asked.every_count, |reason| {
            counters.iter().map(|counters| counters.dropped(reason)).sum()
        }),
        events: named(Event::ALL, Event::name, asked.every_count, |event| {
            counters.iter().map(|counters| counters.happened(event)).sum()
        }),
        warnings: identity
            .warnings
            .iter()
            .chain(&control.warnings)
            .cloned()
            .chain(lost_messages(control))
            .collect(),
        recent_drops: {
            let recent = control.recent_drops();
            reasons(|reason| recent[reason as usize])
        },
        translation_log: identity.collector.as_ref().map(|collector| TranslationLog {
            collector: collector.address.to_string(),
            exported: collector.exported.get(),
            lost: collector.lost(),
            failed: collector.failed.get(),
        }),
        local_pools: if asked.local_pools { local_pools(control) } else { Vec::new() },
        snat: snat(control),
        frames: identity
            .frames
            .iter()
            .map(|pool| FramePool { frames: pool.size(), free: pool.available() })
            .collect(),
        process: Some(fulcrum_api::process::usage()),
        gateways: control
            .program
            .gateways()
            .iter()
            .map(|gateway| GatewayStatus {
                interface: control.snapshot.interfaces[usize::from(gateway.interface)].name.clone(),
                address: gateway.address.to_string(),
                answers: gateway.answers(),
            })
            .collect(),
    }
}

fn worker(control: &Control, id: usize, link: &WorkerLink) -> Worker {
    let (counters, pace) = (&link.counters, &link.pace);
    Worker {
        id: u32::try_from(id).unwrap_or(u32::MAX),
        lcore: u32::try_from(link.lcore).unwrap_or(u32::MAX),
        sessions: counters.sessions.get(),
        session_limit: control.identity.sessions as u64,
        rx_packets: counters.rx_packets.get(),
        tx_packets: counters.tx_packets.get(),
        handed_off: counters.handed_off.get(),
        busy: pace.busy,
        drops: reasons(|reason| counters.dropped(reason)),
        asleep: pace.asleep,
        cycles_per_packet: pace.cycles_per_packet,
        ns_per_packet: pace.ns_per_packet,
        burst_fill: pace.burst_fill,
        rx_pps: pace.rx_pps.round() as u64,
        tx_pps: pace.tx_pps.round() as u64,
        queues: queues(control, id),
        short_way: counters.short_way.get(),
    }
}

/// The receive queues that a worker polls, as port and number.
fn queues(control: &Control, worker: usize) -> Vec<String> {
    let workers = control.workers.len();
    let ports = control.ports.iter().enumerate();
    ports
        .flat_map(|(number, port)| {
            let count = usize::from(port.rx_queues);
            let its =
                (0..count).filter(move |queue| deal::receiver(number, *queue, count, workers) == worker);
            its.map(|queue| format!("{} {queue}", port.name))
        })
        .collect()
}

fn port(control: &Control, number: usize, open: &Port, workers: &[&WorkerCounters]) -> PortStatus {
    let number = u16::try_from(number).unwrap_or(u16::MAX);
    let (link, stats) = open.now();
    let dropped = |reason| workers.iter().map(|counters| counters.dropped_on(number, reason)).sum();
    let exceptions = exceptions(control, number);
    let classes: &[Class] = if exceptions.is_empty() { &[] } else { &Class::ALL };
    PortStatus {
        name: open.name.clone(),
        device: open.device.clone(),
        driver: open.driver.clone(),
        mac: Mac(open.mac).to_string(),
        link: link.up,
        speed_mbps: link.speed_mbps,
        rx_queues: open.rx_queues.into(),
        tx_queues: open.tx_queues.into(),
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
        rx_missed: stats.rx_missed + stats.rx_nombuf,
        rx_errors: stats.rx_errors,
        tx_errors: stats.tx_errors,
        tx_dropped: dropped(Reason::TxFull),
        drops: reasons(dropped),
        notes: open.notes.clone(),
        steering: Some(steering(&open.way)),
        offloads: open.offloads(),
        exception_classes: classes.iter().map(|class| exception_class(*class, number, workers)).collect(),
        exception_down: workers.iter().map(|counters| counters.exception(number).down.get()).sum(),
        exceptions,
        bond: open.bond.as_ref().map(|bond| BondStatus {
            mode: bond.mode.name().to_owned(),
            members: open.members_now().iter().map(member).collect(),
        }),
    }
}

fn member(member: &MemberNow<'_>) -> BondMember {
    let MemberState { up, active, lacp } = member.state;
    let partner = lacp.map(|lacp| lacp.partner).filter(|partner| *partner != [0; 6]);
    let state = match (active, lacp) {
        _ if !member.up || up == Some(false) => "down",
        (None, _) => "unknown",
        (Some(true), None) => "active",
        (Some(false), None) => "backup",
        (Some(true), Some(_)) => "aggregated",
        (Some(false), Some(_)) if partner.is_some() => "negotiating",
        (Some(false), Some(_)) => "no-partner",
    };
    BondMember {
        device: member.device.to_owned(),
        driver: member.driver.clone(),
        mac: Mac(member.mac).to_string(),
        link: member.up,
        active: active == Some(true),
        state: state.to_owned(),
        partner: partner.map(|mac| Mac(mac).to_string()).unwrap_or_default(),
        rx_packets: member.stats.rx_packets,
        tx_packets: member.stats.tx_packets,
    }
}

fn steering(way: &Way) -> PortSteering {
    let (checked, disagreed) = way.compared();
    PortSteering { way: way.name().to_string(), detail: way.detail(), checked, disagreed }
}

fn reasons(count: impl Fn(Reason) -> u64) -> Vec<NamedCount> {
    named(Reason::ALL, Reason::name, false, count)
}

/// Those that have occurred, or all of them.
fn named<T: Copy>(
    all: &[T],
    name: impl Fn(T) -> &'static str,
    every: bool,
    count: impl Fn(T) -> u64,
) -> Vec<NamedCount> {
    all.iter()
        .map(|item| NamedCount { name: name(*item).to_owned(), count: count(*item) })
        .filter(|named| every || named.count > 0)
        .collect()
}

/// The twins of a port's interfaces.
fn exceptions(control: &Control, port: u16) -> Vec<ExceptionStatus> {
    let of_port = |interface: &&Interface| interface.port == port;
    let of = |interface: &Interface| {
        let name = control.host.exceptions.get(&interface.name)?;
        let here = control.host.addresses.iter().filter(|(_, twin)| twin.as_ref() == Some(name));
        let addresses = here.map(|(address, _)| address.to_string()).collect();
        Some(ExceptionStatus { interface: interface.name.clone(), name: name.clone(), addresses })
    };
    control.snapshot.interfaces.iter().filter(of_port).filter_map(of).collect()
}

/// What went up from a port, of one class.
fn exception_class(class: Class, port: u16, workers: &[&WorkerCounters]) -> ExceptionClass {
    let sum = |count: fn(&ClassCells) -> u64| {
        workers.iter().map(|counters| count(counters.exception(port).of(class))).sum()
    };
    ExceptionClass {
        name: class.name().to_owned(),
        up: sum(|cells| cells.up.get()),
        policed: sum(|cells| cells.policed.get()),
        full: sum(|cells| cells.full.get()),
    }
}

fn lost_messages(control: &Control) -> Option<String> {
    let lost: u64 = control.workers.iter().map(|worker| worker.board.lost_messages.get()).sum();
    (lost > 0).then(|| format!("{lost} messages between workers found no room: they are overloaded"))
}

/// Local addresses by the services, and rules that masquerade, that use them.
fn local_pools(control: &Control) -> Vec<LocalPoolUse> {
    let snapshot = &control.snapshot;
    let services = snapshot.services.values().chain(snapshot.mark_services.values());
    let services = services.map(|service| (name(service), &service.local_addresses));
    let rules = snapshot.snat.iter().filter(|rule| rule.counts.available);
    let rules = rules.filter_map(|rule| Some((format!("snat {}", rule.name), rule.pool.as_ref()?)));
    let mut uses: Vec<LocalPoolUse> = services
        .chain(rules)
        .flat_map(|(name, ranges)| {
            ranges.iter().filter_map(move |range| {
                let cells = snapshot.locals.get(&range.address)?.pool.as_ref()?;
                Some(LocalPoolUse {
                    service: name.clone(),
                    address: range.address.to_string(),
                    conflicts: cells.sum(|cells| &cells.conflicts),
                    sessions: cells.sum(|cells| &cells.sessions),
                })
            })
        })
        .collect();
    uses.sort_by(|a, b| (&a.service, &a.address).cmp(&(&b.service, &b.address)));
    uses
}

/// What counts for rules that masquerade.
fn snat(control: &Control) -> Vec<SnatUse> {
    let used = |rule: &SnatRule| {
        let cells = &rule.counts.counters;
        SnatUse {
            name: rule.name.clone(),
            sessions: cells.sum(|cells| &cells.active) + cells.sum(|cells| &cells.inactive),
            connections: cells.sum(|cells| &cells.traffic.connections),
            out_packets: cells.sum(|cells| &cells.traffic.in_packets),
            out_bytes: cells.sum(|cells| &cells.traffic.in_bytes),
            in_packets: cells.sum(|cells| &cells.traffic.out_packets),
            in_bytes: cells.sum(|cells| &cells.traffic.out_bytes),
            refused: rule.refused.sum(|refused| refused),
            ports: rule.pool.as_ref().map(|pool| pool.iter().map(LocalRange::ports).sum()),
        }
    };
    control.program.snat_rules().map(used).collect()
}

/// A service's name as everywhere else.
fn name(service: &Service) -> String {
    match service.mark {
        Some(mark) => ServiceKey::Mark { family: Family::of(service.address), mark }.to_string(),
        None => match Protocol::ALL.into_iter().find(|protocol| protocol.number() == service.protocol) {
            Some(protocol) => ServiceKey::new(protocol, service.address, service.port).to_string(),
            None => format!("{} {}:{}", service.protocol, service.address, service.port),
        },
    }
}
