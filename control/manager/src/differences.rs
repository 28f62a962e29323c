//! The difference of two states in words, one line a thing: `+` new, `-` gone, `~` changed.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::{Duration, UNIX_EPOCH};

use fulcrum_model::file::{CHECK_KEYS, check_entries};
use fulcrum_model::{Admin, RouteTarget, Server, Service, Settings, State, TimeoutState, Timeouts, validate};

/// What has to change for `old` to become `new`; nothing when they are equal.
pub fn differences(old: &State, new: &State) -> Vec<String> {
    let (before, after) = (things(old), things(new));
    let old_by_name: HashMap<&str, &Thing> =
        before.iter().map(|thing| (thing.name.as_str(), thing)).collect();
    let new_by_name: HashMap<&str, &Thing> = after.iter().map(|thing| (thing.name.as_str(), thing)).collect();
    let gone = before.iter().filter(|thing| !new_by_name.contains_key(thing.name.as_str()));
    let mut lines: Vec<String> = gone.map(|thing| format!("- {}", thing.name)).collect();
    for thing in &after {
        match old_by_name.get(thing.name.as_str()) {
            None => lines.push(thing.added()),
            Some(old) => lines.extend(thing.changed(old)),
        }
    }
    if lines.is_empty() && old != new {
        lines.push("~ order of the same things".to_owned());
    }
    lines
}

/// Something with a name, and its other properties.
struct Thing {
    name: String,
    properties: Vec<(&'static str, String)>,
}

impl Thing {
    fn added(&self) -> String {
        let properties = self.properties.iter().filter(|(_, value)| !value.is_empty());
        let properties: Vec<String> = properties.map(|(name, value)| format!("{name} {value}")).collect();
        match properties.is_empty() {
            true => format!("+ {}", self.name),
            false => format!("+ {}: {}", self.name, properties.join(", ")),
        }
    }

    fn changed(&self, old: &Thing) -> Option<String> {
        let word = |value: &String| if value.is_empty() { "none".to_owned() } else { value.clone() };
        let changes: Vec<String> = std::iter::zip(&old.properties, &self.properties)
            .filter(|(old, new)| old != new)
            .map(|(old, new)| format!("{} {} -> {}", new.0, word(&old.1), word(&new.1)))
            .collect();
        (!changes.is_empty()).then(|| format!("~ {}: {}", self.name, changes.join(", ")))
    }
}

fn things(state: &State) -> Vec<Thing> {
    let mut list = Vec::new();
    let mut add =
        |name: String, properties: Vec<(&'static str, String)>| list.push(Thing { name, properties });
    for port in &state.ports {
        add(format!("port {}", port.name), vec![("device", port.made_of()), ("mac", text(&port.mac))]);
    }
    for interface in &state.interfaces {
        add(
            format!("interface {}", interface.name),
            vec![
                ("port", interface.port.clone()),
                ("vlan", interface.vlan.to_string()),
                ("mtu", interface.mtu.to_string()),
                ("addresses", all(&interface.addresses)),
                ("mss", text(&interface.mss)),
                ("exception", text(&interface.exception)),
            ],
        );
    }
    for route in &state.routes {
        let target = match &route.target {
            RouteTarget::Via(hops) => format!("via {}", all(hops)),
            RouteTarget::Interface(name) => format!("on {name}"),
            RouteTarget::Unreachable => "unreachable".to_owned(),
            RouteTarget::Blackhole => "blackhole".to_owned(),
        };
        add(format!("route {}", route.to), vec![("target", target), ("mtu", text(&route.mtu))]);
    }
    for neighbour in &state.neighbours {
        let name = format!("neighbour {} on {}", neighbour.address, neighbour.interface);
        add(name, vec![("mac", neighbour.mac.to_string())]);
    }
    for pool in &state.local_pools {
        let ports = format!("{}-{}", pool.ports.first, pool.ports.last);
        add(
            format!("local-pool {}", pool.name),
            vec![
                ("interface", pool.interface.clone()),
                ("addresses", all(&pool.addresses)),
                ("ports", ports),
            ],
        );
    }
    for (at, rule) in state.marks.iter().enumerate() {
        add(format!("mark rule {}", at + 1), vec![("rule", rule.to_string())]);
    }
    for rule in &state.snat {
        add(
            format!("snat {}", rule.name),
            vec![
                ("source", rule.source.to_string()),
                ("destination", text(&rule.destination)),
                ("protocol", text(&rule.protocol)),
                ("destination-ports", all(&rule.destination_ports)),
                ("pool", text(&rule.pool)),
            ],
        );
    }
    for over in &state.overrides {
        add(
            format!("override of service {}", over.service),
            vec![
                ("forward", if over.full_nat { "fullnat".to_owned() } else { String::new() }),
                ("local-pool", text(&over.local_pool)),
                ("interface", text(&over.interface)),
                ("mss", text(&over.mss)),
                ("client-address", text(&over.client_address)),
            ],
        );
    }
    for check in &state.checks {
        let mut values: HashMap<_, _> = check_entries(check).into_iter().collect();
        let keys = CHECK_KEYS.map(|key| (key, values.remove(key).unwrap_or_default()));
        add(format!("check {}", check.name), keys.to_vec());
    }
    for service in &state.services {
        add(format!("service {}", service.key), service_properties(service));
        for server in &service.servers {
            add(format!("server {} of service {}", server.key, service.key), server_properties(server));
        }
    }
    let timeouts = &state.timeouts;
    let mut seconds = vec![
        ("tcp", timeouts.tcp.to_string()),
        ("tcp-fin", timeouts.tcp_fin.to_string()),
        ("udp", timeouts.udp.to_string()),
    ];
    let others = TimeoutState::ALL.into_iter().filter(|state| !Timeouts::NAMED.contains(state));
    seconds.extend(others.map(|state| (state.name(), timeouts.of(state).to_string())));
    add("timeouts".to_owned(), seconds);
    let mut exception = state.exception.rates().map(|(name, rate)| (name, rate.to_string())).to_vec();
    exception.push(("management-ports", all(&state.exception.management_ports)));
    add("exception".to_owned(), exception);
    let value = |name: &&'static str| Some((*name, state.settings.get(name)?));
    add("settings".to_owned(), Settings::NAMES.iter().filter_map(value).collect());
    list
}

fn service_properties(service: &Service) -> Vec<(&'static str, String)> {
    let own = service.health.own_checks.iter().map(|check| {
        let words = check_entries(check).into_iter().map(|(key, value)| format!("{key} = {value}"));
        format!("{{ {} }}", words.collect::<Vec<_>>().join(", "))
    });
    let own: Vec<String> = own.collect();
    let own = own.join(" ");
    let sorry = service.health.sorry_server.as_ref().map_or(String::new(), |sorry| {
        let properties = server_properties(sorry).into_iter().filter(|(_, value)| !value.is_empty());
        let words: Vec<_> = properties.map(|(name, value)| format!("{name} {value}")).collect();
        format!("{} ({})", sorry.key, words.join(", "))
    });
    let locals: Vec<_> = service.local_addresses.iter().map(|local| local.0).collect();
    vec![
        ("scheduler", service.scheduler.clone()),
        ("persistent", text(&service.persistent)),
        ("scheduler-flags", service.scheduler_flag_names().join(" ")),
        ("netmask", text(&service.mask())),
        ("persistence-engine", text(&service.persistence_engine)),
        ("one-packet", if service.one_packet { "true".to_owned() } else { String::new() }),
        ("local-pool", text(&service.local_pool)),
        ("local-addresses", all(&locals)),
        ("interface", text(&service.interface)),
        ("mss", text(&service.mss)),
        ("client-address", unless_default(service.client_address)),
        ("checks", service.health.checks.join(" ")),
        ("own checks", own),
        ("on-failure", unless_default(service.health.on_failure)),
        ("quorum", unless(1, service.health.quorum)),
        ("hysteresis", unless_default(service.health.hysteresis)),
        ("sorry-server", sorry),
        ("slow-start", unless_default(service.health.slow_start)),
        ("timeouts", all(&service.timeouts.iter().map(|(s, n)| format!("{s} {n}")).collect::<Vec<_>>())),
    ]
}

fn server_properties(server: &Server) -> Vec<(&'static str, String)> {
    let checks = server.health.checks.as_ref().map_or(String::new(), |checks| match checks.is_empty() {
        true => "[]".to_owned(),
        false => checks.join(" "),
    });
    vec![
        ("forward", server.forward.to_string()),
        ("tunnel", unless_default(server.tunnel)),
        ("weight", server.weight.to_string()),
        ("upper-threshold", unless_default(server.upper_threshold)),
        ("lower-threshold", unless_default(server.lower_threshold)),
        ("checks", checks),
        ("on-failure", text(&server.health.on_failure)),
        ("check-address", text(&server.health.address)),
        ("check-port", text(&server.health.port)),
        ("admin", admin(server.admin)),
    ]
}

fn admin(admin: Admin) -> String {
    match admin {
        Admin::Enabled => String::new(),
        Admin::Drain { until: Some(until) } => {
            // What is compared need not be valid.
            let time = UNIX_EPOCH + Duration::from_secs(until.min(validate::MAX_DRAIN_UNTIL));
            format!("drain until {}", humantime::format_rfc3339_seconds(time))
        }
        Admin::Drain { until: None } | Admin::Disabled => admin.name().to_owned(),
    }
}

fn unless(usual: u32, value: u32) -> String {
    if value == usual { String::new() } else { value.to_string() }
}

fn unless_default<T: Default + PartialEq + Display>(value: T) -> String {
    if value == T::default() { String::new() } else { value.to_string() }
}

fn text(value: &Option<impl Display>) -> String {
    value.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn all(values: &[impl Display]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use fulcrum_model::file::Config;

    use super::*;

    const OLD: &str = r#"
        [[service]]
        address = "10.0.0.1:80"
        protocol = "tcp"
        persistent = 60
        [[service.server]]
        address = "10.0.1.1:80"
        forward = "nat"
        [[service]]
        address = "10.0.0.2:53"
        protocol = "udp"
    "#;

    fn state(text: &str) -> State {
        Config::parse("test", text).unwrap().state
    }

    #[test]
    fn each_change_is_a_line() {
        let new = r#"
            [[port]]
            name = "wan"
            device = "eth1"
            [[service]]
            address = "10.0.0.1:80"
            protocol = "tcp"
            scheduler = "rr"
            [[service.server]]
            address = "10.0.1.1:80"
            forward = "dr"
            weight = 0
            [timeouts]
            udp = 30
        "#;
        let expected = [
            "- service udp 10.0.0.2:53",
            "+ port wan: device eth1",
            "~ service tcp 10.0.0.1:80: scheduler wlc -> rr, persistent 60 -> none",
            "~ server 10.0.1.1:80 of service tcp 10.0.0.1:80: forward nat -> dr, weight 1 -> 0",
            "~ timeouts: udp 300 -> 30",
        ];
        assert_eq!(differences(&state(OLD), &state(new)), expected);
    }

    #[test]
    fn equal_states_differ_in_nothing_and_an_order_is_a_difference() {
        let old = state(OLD);
        assert!(differences(&old, &old).is_empty());
        let mut turned = old.clone();
        turned.services.reverse();
        assert_eq!(differences(&old, &turned).len(), 1);
    }
}
