//! What services and servers say of health and admin state.

use super::errors;
use crate::file::{Config, to_toml};
use crate::state::{Admin, Forward, OnFailure, ServerHealth};

const EVERYTHING: &str = r#"[[service]]
address = "172.16.100.9:80"
protocol = "tcp"
on-failure = "quiesce"
checks = ["web", "alive"]
quorum = 3
hysteresis = 2
slow-start = 30
[[service.check]]
type = "http"
path = "/ready"
[service.sorry-server]
address = "192.168.20.99:8080"
forward = "nat"
weight = 7
[[service.server]]
address = "192.168.20.7:8080"
forward = "nat"
checks = []
on-failure = "remove"
check-address = "10.9.0.7"
check-port = 8081
admin = "drain"
drain-until = "2030-01-31T18:00:00Z"
[[service.server]]
address = "192.168.20.8:8080"
forward = "nat"
admin = "drain"
[[service.server]]
address = "192.168.20.9:8080"
forward = "nat"
admin = "disabled"
checks = ["alive"]
[[check]]
name = "web"
type = "tcp"
[[check]]
name = "alive"
type = "ping"
"#;

#[test]
fn everything_is_read_and_written() {
    let config = Config::parse("f", EVERYTHING).unwrap();
    assert_eq!(Config::parse("g", &to_toml(&config)).unwrap(), config);
    let service = &config.state.services[0];
    let health = &service.health;
    assert_eq!((health.on_failure, health.quorum, health.hysteresis), (OnFailure::Quiesce, 3, 2));
    assert_eq!(health.slow_start, 30);
    assert_eq!(health.checks, ["web", "alive"]);
    assert_eq!((health.own_checks.len(), health.own_checks[0].kind.name()), (1, "http"));
    assert_eq!(service.servers[1].health, ServerHealth::default());
    let sorry = health.sorry_server.as_ref().unwrap();
    assert_eq!((sorry.key.port, sorry.forward, sorry.weight), (8080, Forward::Nat, 7));
    let server = &service.servers[0];
    assert_eq!(
        server.health,
        ServerHealth {
            checks: Some(vec![]),
            on_failure: Some(OnFailure::Remove),
            address: Some([10, 9, 0, 7].into()),
            port: Some(8081),
        }
    );
    let admins: Vec<Admin> = service.servers.iter().map(|server| server.admin).collect();
    assert_eq!(
        admins,
        [Admin::Drain { until: Some(1_896_112_800) }, Admin::Drain { until: None }, Admin::Disabled]
    );
}

#[test]
fn mistakes_name_line_and_remedy() {
    let cases = [
        ("quorum = 3", "quorum = 0", "f:6: quorum of 0 is out of range; 1 to 4294967295"),
        ("hysteresis = 2", "hysteresis = 3", "f:7: hysteresis 3 must be less than the quorum, 3"),
        ("slow-start = 30", "slow-start = 86401", "f:8: slow-start of 86401 is out of range; 0 to 86400"),
        ("\"quiesce\"", "\"keep\"", "f:4: on-failure `keep` does not exist; one of \"remove\", \"quiesce\""),
        (
            "20.99:8080",
            "20.7:8080",
            "f:13: 192.168.20.7:8080 is a server of the service already; its sorry server must be another one",
        ),
        ("weight = 7", "weight = 0", "f:15: a sorry server of weight 0 would get nothing; at least 1"),
        ("weight = 7", "admin = \"drain\"", "f:15: unknown key `admin` in [service.sorry-server]"),
        (
            "forward = \"nat\"\nweight",
            "forward = \"fullnat\"\nweight",
            "f:14: server 192.168.20.99:8080 is fullnat but service tcp 172.16.100.9:80 has no local address",
        ),
        ("10.9.0.7", "224.0.0.1", "f:21: 224.0.0.1 is not an address that a server can have"),
        ("check-port = 8081", "check-port = 0", "f:22: check-port of 0 is out of range; 1 to 65535"),
        ("2030-01-31T18:00:00Z", "soon", "f:24: `soon` is no time such as 2030-01-31T18:00:00Z"),
        (
            "admin = \"drain\"\ndrain-until",
            "admin = \"disabled\"\ndrain-until",
            "f:24: drain-until belongs to admin = \"drain\"; leave it away",
        ),
        (
            "checks = [\"web\", \"alive\"]",
            "checks = [\"web\", \"alife\"]",
            "f:5: there is no check `alife`; known: web, alive",
        ),
        ("checks = [\"alive\"]", "checks = [\"www\"]", "f:33: there is no check `www`; known: web, alive"),
        ("\"web\", \"alive\"]", "\"web\", \"web\"]", "f:5: check `web` is listed twice"),
        ("path = \"/ready\"", "path = \"ready\"", "f:11: `ready` is no path of a URL"),
        ("path = \"/ready\"", "name = \"ready\"", "f:11: unknown key `name` in [[service.check]]"),
        (
            "20.8:8080",
            "20.8:0",
            "f:26: server 192.168.20.8:0 keeps the clients' port, and check `web` has none; give the check a `port` or the server a `check-port`",
        ),
        (
            "admin = \"disabled\"",
            "admin = \"off\"",
            "f:32: admin `off` does not exist; one of \"enabled\", \"drain\", \"disabled\"",
        ),
    ];
    for (from, to, error) in cases {
        assert!(EVERYTHING.contains(from), "{from}");
        let found = errors(&EVERYTHING.replacen(from, to, 1));
        assert!(found.iter().any(|line| line.starts_with(error)), "{from} -> {to}: {found:#?}");
    }
}
