//! Services as listings show them.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::net::IpAddr;

use fulcrum_api::control::ServiceStanding;
use fulcrum_api::dataplane::{Counters, ServiceCounters};
use fulcrum_model::{Announce, Family, Service, ServiceKey};
use serde::Serialize;

use crate::client::Client;
use crate::failure::Failure;
use crate::health::Quorum;
use crate::output::Output;
use crate::server::ServerRow;
use crate::table::{self, Row};

/// A service, its servers and what was counted.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceRow {
    /// Its name.
    #[serde(skip)]
    pub key: ServiceKey,
    /// Absent, as address and port are, of a service by mark.
    protocol: Option<&'static str>,
    address: Option<IpAddr>,
    port: Option<u16>,
    /// Absent of a service by address.
    mark: Option<u32>,
    family: &'static str,
    scheduler: String,
    scheduler_flags: Vec<&'static str>,
    one_packet: bool,
    persistent: Option<u32>,
    persistence_engine: Option<String>,
    netmask: String,
    local_pool: Option<String>,
    local_addresses: Vec<IpAddr>,
    interface: Option<String>,
    mss: Option<u16>,
    client_address: &'static str,
    /// When its VIP is on an interface of the host.
    announce: &'static str,
    announce_on: Option<String>,
    announce_after: u32,
    /// Those of the service's own, by state.
    timeouts: BTreeMap<&'static str, u32>,
    /// Names of the checks that every server has to pass.
    checks: Vec<String>,
    /// Kinds of further checks of its own.
    own_checks: Vec<&'static str>,
    on_failure: &'static str,
    hysteresis: u32,
    slow_start: u32,
    sorry_server: Option<String>,
    quorum: Option<Quorum>,
    /// Absent when there is no data plane to ask.
    counters: Option<Counters>,
    /// Its servers, in order of addition.
    pub servers: Vec<ServerRow>,
}

impl ServiceRow {
    /// A service and what was counted of it.
    pub fn new(
        service: &Service,
        counted: Option<&ServiceCounters>,
        standing: Option<&ServiceStanding>,
    ) -> ServiceRow {
        let health = &service.health;
        let key = service.key;
        let whole = match key.family() {
            Family::V4 => "255.255.255.255",
            Family::V6 => "128",
        };
        ServiceRow {
            key,
            protocol: key.protocol().map(|protocol| protocol.name()),
            address: key.address(),
            port: key.port(),
            mark: key.mark(),
            family: key.family().name(),
            scheduler: service.scheduler.clone(),
            scheduler_flags: service.scheduler_flag_names(),
            one_packet: service.one_packet,
            persistent: service.persistent,
            persistence_engine: service.persistence_engine.clone(),
            netmask: service.mask().unwrap_or_else(|| whole.to_owned()),
            local_pool: service.local_pool.clone(),
            local_addresses: service.local_addresses.iter().map(|local| local.0).collect(),
            interface: service.interface.clone(),
            mss: service.mss,
            client_address: service.client_address.name(),
            announce: service.announcement.when.name(),
            announce_on: service.announcement.on.clone(),
            announce_after: service.announcement.after,
            timeouts: service.timeouts.iter().map(|(state, seconds)| (state.name(), *seconds)).collect(),
            checks: health.checks.clone(),
            own_checks: health.own_checks.iter().map(|check| check.kind.name()).collect(),
            on_failure: health.on_failure.name(),
            hysteresis: health.hysteresis,
            slow_start: health.slow_start,
            sorry_server: health.sorry_server.as_ref().map(|sorry| sorry.key.to_string()),
            quorum: standing.map(Quorum::new),
            counters: counted.map(|counted| counted.counters.unwrap_or_default()),
            servers: ServerRow::all(service, counted, standing),
        }
    }

    /// What is special about it, a line each: a word, and how it is.
    fn properties(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("service", self.key.to_string()), ("scheduler", self.scheduler.clone())];
        let mut add = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
        let unless_empty = |text: String| (!text.is_empty()).then_some(text);
        add("flags", unless_empty(self.scheduler_flags.join(" ")));
        add("one packet", self.one_packet.then(|| "each datagram is scheduled anew".to_owned()));
        let engine = self.persistence_engine.as_ref().map_or(String::new(), |name| format!(" by {name}"));
        add(
            "persistent",
            self.persistent.map(|seconds| format!("{seconds} s under {}{engine}", self.netmask)),
        );
        add("local pool", self.local_pool.clone());
        let locals: Vec<String> = self.local_addresses.iter().map(ToString::to_string).collect();
        add("local addresses", unless_empty(locals.join(" ")));
        add("interface", self.interface.clone());
        add("mss", self.mss.map(|bytes| format!("{bytes} bytes at most")));
        add("client address", Some(self.client_address.to_owned()).filter(|way| way != "none"));
        let on = self.announce_on.as_ref().map_or(String::new(), |name| format!(" on {name}"));
        let announced = format!("{}{on}, after {} s", self.announce, self.announce_after);
        add("announced", (self.announce != Announce::Never.name()).then_some(announced));
        let timeouts: Vec<String> =
            self.timeouts.iter().map(|(state, seconds)| format!("{state} {seconds} s")).collect();
        add("time-outs", unless_empty(timeouts.join(", ")));
        let checks =
            self.checks.iter().cloned().chain(self.own_checks.iter().map(|kind| format!("({kind})")));
        let checks: Vec<String> = checks.collect();
        add(
            "checks",
            (!checks.is_empty()).then(|| format!("{}; {} what fails", checks.join(", "), self.on_failure)),
        );
        add("quorum", self.quorum.as_ref().and_then(|quorum| self.quorum_words(quorum)));
        let sorry = self.quorum.as_ref().is_some_and(|quorum| quorum.sorry);
        let sorry = if sorry { "answers" } else { "stands by" };
        add("sorry server", self.sorry_server.as_ref().map(|key| format!("{key}, {sorry}")));
        add("slow start", (self.slow_start != 0).then(|| format!("{} s", self.slow_start)));
        if let Some(c) = &self.counters {
            let traffic =
                |packets, pps, bytes, bps| format!("{packets} packets ({pps}/s), {bytes} bytes ({bps}/s)");
            add("connections", Some(format!("{} ({}/s)", c.connections, c.cps)));
            add("in", Some(traffic(c.in_packets, c.in_pps, c.in_bytes, c.in_bps)));
            add("out", Some(traffic(c.out_packets, c.out_pps, c.out_bytes, c.out_bps)));
        }
        lines
    }

    fn quorum_words(&self, quorum: &Quorum) -> Option<String> {
        let Quorum { needed, healthy_weight, lost_since, .. } = quorum;
        let hysteresis = match self.hysteresis {
            0 => String::new(),
            hysteresis => format!(" ± {hysteresis}"),
        };
        match lost_since {
            Some(since) => Some(format!(
                "lost since {since}: healthy servers weigh {healthy_weight} of {needed}{hysteresis}"
            )),
            None if *needed == 1 => None,
            None => Some(format!("healthy servers weigh {healthy_weight} of {needed}{hysteresis}")),
        }
    }

    /// How many servers there are, and, where that is not the same, how many of them get what their weight says.
    fn servers_cell(&self) -> String {
        let servers = self.servers.iter().filter(|server| !server.is_sorry());
        let all = servers.clone().count();
        match servers.filter(|server| server.serves()).count() {
            serving if serving == all => all.to_string(),
            serving => format!("{serving}/{all}"),
        }
    }

    /// The whole of it.
    pub fn show(&self, json: bool, out: &mut Output<'_>) -> Result<(), Failure> {
        if json {
            return Ok(out.json(self)?);
        }
        for (name, value) in self.properties() {
            writeln!(out, "{name:<17}{value}")?;
        }
        writeln!(out)?;
        Ok(table::print(out, false, &self.servers)?)
    }
}

impl Row for ServiceRow {
    const HEAD: &'static [&'static str] = &[
        "SERVICE",
        "SCHEDULER",
        "PERSISTENT",
        "LOCAL-POOL",
        "SERVERS",
        "CONNECTIONS",
        "IN-PACKETS",
        "OUT-PACKETS",
    ];

    fn cells(&self) -> Vec<String> {
        let count = |field: fn(&Counters) -> u64| table::or_dash(self.counters.as_ref().map(field));
        vec![
            self.key.to_string(),
            self.scheduler.clone(),
            table::or_dash(self.persistent),
            table::or_dash(self.local_pool.as_ref()),
            self.servers_cell(),
            count(|c| c.connections),
            count(|c| c.in_packets),
            count(|c| c.out_packets),
        ]
    }
}

/// All services with what was counted; without a data plane, without counters and with a note.
pub async fn rows(client: &mut Client) -> Result<Vec<ServiceRow>, Failure> {
    let state = client.state().await?;
    let counted = match client.counters().await {
        Ok(counted) => counted.services,
        Err(Failure::NoDataplane(why)) => {
            eprintln!("fulcrum: no counters: {why}");
            Vec::new()
        }
        Err(other) => return Err(other),
    };
    let mut by_key = HashMap::new();
    for counters in counted {
        if let Some(key) = counters.key.clone() {
            by_key.insert(ServiceKey::try_from(key)?, counters);
        }
    }
    let mut standings = HashMap::new();
    for standing in client.health(None).await? {
        if let Some(key) = standing.key.clone() {
            standings.insert(ServiceKey::try_from(key)?, standing);
        }
    }
    let row =
        |service: &Service| ServiceRow::new(service, by_key.get(&service.key), standings.get(&service.key));
    Ok(state.services.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use fulcrum_api::dataplane::ServerCounters;
    use fulcrum_model::file::Config;
    use serde_json::json;

    use super::*;

    const CONFIG: &str = r#"
        [[service]]
        address = "172.16.100.9:80"
        protocol = "tcp"
        scheduler = "wrr"
        persistent = 300
        [[service.server]]
        address = "192.168.20.7:8080"
        forward = "nat"
        weight = 3
    "#;

    fn row() -> ServiceRow {
        let service = Config::parse("test", CONFIG).unwrap().state.services.remove(0);
        let counters = Counters {
            connections: 7,
            in_packets: 21,
            out_packets: 14,
            in_bytes: 2100,
            ..Counters::default()
        };
        let server = ServerCounters {
            key: Some((&service.servers[0].key).into()),
            counters: Some(Counters { cps: 2, ..counters }),
            active: 5,
            inactive: 2,
            persistent: 1,
        };
        let counted = ServiceCounters {
            key: Some((&service.key).into()),
            counters: Some(counters),
            servers: vec![server],
        };
        ServiceRow::new(&service, Some(&counted), None)
    }

    fn printed(print: impl FnOnce(&mut Output<'_>)) -> String {
        let mut text = Vec::new();
        print(&mut Output::new(&mut text));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_service_with_counters_as_json() {
        let counters = |cps| {
            json!({
                "connections": 7, "in_packets": 21, "out_packets": 14, "in_bytes": 2100, "out_bytes": 0,
                "cps": cps, "in_pps": 0, "out_pps": 0, "in_bps": 0, "out_bps": 0,
            })
        };
        let health = json!({
            "state": "unchecked", "since": null, "why": null, "healthy": true, "effective_weight": 3, "checks": [],
        });
        assert_eq!(
            serde_json::to_value(row()).unwrap(),
            json!({
                "protocol": "tcp", "address": "172.16.100.9", "port": 80, "mark": null, "family": "ipv4",
                "scheduler": "wrr", "scheduler_flags": [], "one_packet": false, "persistent": 300,
                "persistence_engine": null, "netmask": "255.255.255.255", "local_pool": null, "local_addresses": [],
                "interface": null, "mss": null, "client_address": "none",
                "announce": "never", "announce_on": null, "announce_after": 5,
                "timeouts": {}, "checks": [], "own_checks": [],
                "on_failure": "remove", "hysteresis": 0, "slow_start": 0, "sorry_server": null, "quorum": null,
                "counters": counters(0),
                "servers": [{
                    "service": "tcp 172.16.100.9:80", "address": "192.168.20.7", "port": 8080, "forward": "nat", "tunnel": null,
                    "weight": 3, "upper_threshold": 0, "lower_threshold": 0,
                    "admin": "enabled", "drain_until": null, "sorry": false,
                    "health": health,
                    "active": 5, "inactive": 2, "persistent": 1, "counters": counters(2),
                }],
            })
        );
    }

    #[test]
    fn a_service_with_counters_as_text() {
        assert_eq!(
            printed(|out| row().show(false, out).unwrap()),
            "service          tcp 172.16.100.9:80\n\
             scheduler        wrr\n\
             persistent       300 s under 255.255.255.255\n\
             connections      7 (0/s)\n\
             in               21 packets (0/s), 2100 bytes (0/s)\n\
             out              14 packets (0/s), 0 bytes (0/s)\n\
             \n\
             SERVICE              SERVER             FORWARD  WEIGHT  STATE      ACTIVE  INACTIVE  CONNECTIONS  IN-PACKETS  OUT-PACKETS  NOTE\n\
             tcp 172.16.100.9:80  192.168.20.7:8080  nat      3       unchecked  5       2         7            21          14\n"
        );
    }
}
