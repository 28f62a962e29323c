//! IPv6, SCTP, marks, tunnels, time-outs, settings: how they are written, and what is wrong with some.

use super::super::*;
use super::errors;
use crate::state::*;

const EVERYTHING: &str = r#"
[[port]]
name = "p"
device = "net_null0"
[[interface]]
name = "lan"
port = "p"
mtu = 1280
mss = 1220
addresses = ["fe80::1/64", "fd00:20::1/64", "192.168.20.1/24"]
[[route]]
to = "::/0"
via = "fd00:20::fe"
[[local-pool]]
name = "six"
interface = "lan"
addresses = ["fd00:20::200-fd00:20::203", "192.168.20.200"]
[[mark]]
protocol = "tcp"
destination = "172.16.100.9/32"
destination-ports = "80,443,8000-8999"
mark = 10
[[mark]]
family = "ipv6"
source = "fd00::/16"
interface = "lan"
mark = 0x20
mask = 0xff
[[service]]
mark = 10
scheduler = "wlc"
scheduler-flags = ["flag-1", "flag-3"]
persistent = 60
one-packet = true
[[service.server]]
address = "192.168.20.7"
forward = "nat"
[[service.server]]
address = "192.168.20.7:8080"
forward = "dr"
[[service]]
mark = 10
family = "ipv6"
[[service]]
address = "[fd00::9]:5060"
protocol = "udp"
persistent = 30
netmask = 64
persistence-engine = "sip"
client-address = "proxy-v2"
timeouts = { udp = 10 }
[[service]]
address = "fd00::9"
protocol = "sctp"
persistent = 30
[service.timeouts]
sctp-init1 = 3
sctp-established = 100
[[service]]
address = "[fd00::9]:80"
protocol = "tcp"
mss = 1400
client-address = "toa"
local-pool = "six"
timeouts = { tcp = 100, tcp-syn-recv = 5 }
[[service.server]]
address = "192.168.20.7:8080"
forward = "fullnat"
[[service.server]]
address = "192.168.20.8"
forward = "tun"
tunnel = "gue"
tunnel-port = 6080
tunnel-checksum = "remcsum"
upper-threshold = 9
lower-threshold = 3
[[service.server]]
address = "[fd00:20::7]:8080"
forward = "tun"
tunnel = "gre"
tunnel-checksum = "csum"
tunnel-source = "local"
[timeouts]
tcp = 600
tcp-time-wait = 20
udp = 7
[ipvs]
drop_entry = 3
sloppy_sctp = true
pmtu_disc = 0
am_droprate = 5
sync_threshold = "3 50"
snat_reroute = 1
"#;

fn changed(from: &str, to: &str) -> Vec<String> {
    assert!(EVERYTHING.contains(from), "{from}");
    errors(&EVERYTHING.replacen(from, to, 1))
}

#[test]
fn a_port_says_how_its_packets_find_their_workers() {
    let file =
        |word: &str| format!("[[port]]\nname = \"p\"\ndevice = \"net_null0\"\nsteering = \"{word}\"\n");
    for (word, way) in PortSteering::WORDS {
        let config = Config::parse("f", &file(word)).unwrap();
        assert_eq!((config.state.ports[0].steering, way.to_string().as_str()), (way, word));
        assert_eq!(Config::parse("g", &to_toml(&config)).unwrap(), config);
    }
    let known = "\"auto\", \"software\", \"rss\", \"rss-source\", \"rss-destination\", \"flow\"";
    assert_eq!(errors(&file("hard")), [format!("f:4: steering `hard` does not exist; one of {known}")]);
}

#[test]
fn a_bond_is_read_and_written() {
    let bond = |text: &str| {
        let config = Config::parse("f", &format!("[[port]]\nname = \"p\"\nbond = {text}\n")).unwrap();
        assert_eq!(Config::parse("g", &to_toml(&config)).unwrap(), config);
        assert_eq!(config.state.ports[0].device, "");
        config.state.ports[0].bond.clone().unwrap()
    };
    let backup = bond("{ mode = \"active-backup\", members = [\"eth1\", \"0000:03:00.0\"] }");
    assert_eq!(backup.mode, BondMode::ActiveBackup { primary: None });
    assert_eq!(backup.to_string(), "active-backup:eth1+0000:03:00.0");
    let backup = bond("{ mode = \"active-backup\", members = [\"a\", \"b\"], primary = \"b\" }");
    assert_eq!(backup.mode, BondMode::ActiveBackup { primary: Some("b".to_owned()) });
    assert_eq!(
        bond("{ mode = \"lacp\", members = [\"a\"] }").mode,
        BondMode::Lacp { hash: BondHash::Layer34 }
    );
    for (word, hash) in BondHash::WORDS {
        let lacp = bond(&format!("{{ mode = \"lacp\", members = [\"a\", \"b\"], hash = \"{word}\" }}"));
        assert_eq!((lacp.mode, hash.to_string().as_str()), (BondMode::Lacp { hash }, word));
    }
}

#[test]
fn what_is_no_bond_is_refused() {
    let wrong = |text: &str| errors(&format!("[[port]]\nname = \"p\"\nbond = {text}\n"));
    let modes = "one of \"active-backup\", \"lacp\"";
    for (text, error) in [
        ("{ members = [\"a\"] }", "f:3: [port.bond] needs `mode`, such as mode = \"active-backup\""),
        ("{ mode = \"lacp\" }", "f:3: [port.bond] needs `members`, such as members = [\"eth1\", \"eth2\"]"),
        ("{ mode = \"rr\", members = [\"a\"] }", &format!("f:3: mode `rr` does not exist; {modes}")),
        (
            "{ mode = \"lacp\", members = [\"a\"], primary = \"a\" }",
            "f:3: primary is a key of mode `active-backup`; with `lacp` all members carry traffic",
        ),
        (
            "{ mode = \"active-backup\", members = [\"a\"], hash = \"layer2\" }",
            "f:3: hash is a key of mode `lacp`; with `active-backup` one member carries all traffic",
        ),
        ("{ mode = \"lacp\", members = [] }", "f:3: a bond has 1 to 8 members, not 0"),
        ("{ mode = \"lacp\", members = [\"a\", \"a\"] }", "f:3: member `a` is listed twice"),
        (
            "{ mode = \"active-backup\", members = [\"a\", \"b\"], primary = \"c\" }",
            "f:3: primary `c` is none of the members; known: a, b",
        ),
        (
            "{ mode = \"lacp\", members = [\"a\"] }\ndevice = \"b\"",
            "f:4: a port has a device or a bond; leave one of the two out",
        ),
        (
            "{ mode = \"lacp\", members = [\"a\"] }\nsteering = \"rss\"",
            "f:4: steering `rss` is not for a bond, whose members spread packets each in its own way; leave it out",
        ),
        (
            "{ mode = \"lacp\", members = [\"a\"] }\n[[port]]\nname = \"q\"\ndevice = \"a\"",
            "f:6: two ports have the device `a`",
        ),
    ] {
        assert_eq!(wrong(text), [error], "{text}");
    }
    let neither = errors("[[port]]\nname = \"p\"\n");
    assert_eq!(neither, ["f:1: [[port]] needs `device`, such as device = \"eth1\", or a bond"]);
}

#[test]
fn everything_is_read_and_written() {
    let config = Config::parse("f", EVERYTHING).unwrap();
    assert_eq!(Config::parse("g", &to_toml(&config)).unwrap(), config);
    let state = &config.state;
    assert_eq!(state.interfaces[0].mss, Some(1220));
    assert_eq!(state.local_pools[0].addresses[0].len(), 4);
    assert_eq!(
        state.marks[0],
        MarkRule {
            protocol: Some(Protocol::Tcp),
            destination: Some("172.16.100.9/32".parse().unwrap()),
            destination_ports: vec![
                PortRange { first: 80, last: 80 },
                PortRange { first: 443, last: 443 },
                PortRange { first: 8000, last: 8999 },
            ],
            ..MarkRule::new(10)
        }
    );
    assert_eq!((state.marks[1].mark, state.marks[1].mask), (0x20, 0xff));
    let [marked, marked_six, sip, sctp, mixed] = &state.services[..] else { panic!("five services") };
    assert_eq!(marked.key, ServiceKey::Mark { family: Family::V4, mark: 10 });
    assert_eq!(marked_six.key, ServiceKey::Mark { family: Family::V6, mark: 10 });
    assert_eq!((marked.scheduler_flags, marked.one_packet), (0b101, true));
    let ports: Vec<u16> = marked.servers.iter().map(|s| s.key.port).collect();
    assert_eq!(ports, [0, 8080], "a service by mark has no port to force on a dr server");
    assert_eq!((sip.prefix, sip.persistence_engine.as_deref()), (64, Some("sip")));
    assert_eq!(sip.client_address, ClientAddress::ProxyV2);
    assert_eq!(sctp.key, ServiceKey::new(Protocol::Sctp, "fd00::9".parse().unwrap(), 0));
    assert_eq!(sctp.timeouts[&TimeoutState::SctpInit1], 3);
    assert_eq!(mixed.timeouts[&TimeoutState::TcpEstablished], 100);
    let tunnels: Vec<String> = mixed.servers.iter().map(|s| s.tunnel.to_string()).collect();
    assert_eq!(tunnels, ["ipip", "gue:6080 remcsum", "gre csum local"]);
    assert_eq!(mixed.servers[1].key.port, 80);
    assert_eq!((state.timeouts.tcp, state.timeouts.udp), (600, 7));
    assert_eq!(state.timeouts.of(TimeoutState::TcpTimeWait), 20);
    let settings = &state.settings;
    assert_eq!((settings.drop_entry, settings.am_droprate), (3, 5));
    assert!(settings.sloppy_sctp && !settings.pmtu_disc);
}

#[test]
fn mistakes_name_line_and_remedy() {
    let cases = [
        ("mtu = 1280", "mtu = 1279", "f:8: mtu 1279 is out of range; 1280 to 9000 with IPv6"),
        ("mss = 1220", "mss = 87", "f:9: mss of 87 is out of range; 88 to 8960"),
        (
            "to = \"::/0\"\n",
            "to = \"::/0\"\nmtu = 1000\n",
            "f:13: mtu 1000 is out of range; 1280 to 9000 with IPv6",
        ),
        (
            "fd00:20::200-fd00:20::203",
            "fd00:20::200-192.168.20.9",
            "f:17: fd00:20::200-192.168.20.9 is of two families",
        ),
        (
            "fd00:20::200-fd00:20::203\", \"192.168.20.200\"",
            "fd00:20::200-fd00:20::203\"",
            "f:68: server 192.168.20.7:8080 is fullnat but service tcp [fd00::9]:80 has no IPv4 local address; give the service a `local-pool` (or ipvsadm -P)",
        ),
        (
            "protocol = \"tcp\"\ndestination = \"172.16.100.9/32\"",
            "destination = \"172.16.100.9/24\"",
            "f:19: 172.16.100.9/24 has host bits set; 172.16.100.0/24 would be right",
        ),
        (
            "protocol = \"tcp\"\ndestination = \"172",
            "destination = \"172",
            "f:20: destination-ports need a protocol; give `protocol`, such as \"tcp\"",
        ),
        ("80,443,8000-8999", "80,http", "f:21: `80,http` is no list of ports, such as \"80,443,8000-8999\""),
        ("80,443,8000-8999", "9-8", "f:21: ports 9-8 end before they begin; swap the two"),
        (
            "family = \"ipv6\"\nsource",
            "family = \"ipv4\"\nsource",
            "f:24: family, source and destination of a mark rule are of two families",
        ),
        (
            "interface = \"lan\"\nmark",
            "interface = \"wan\"\nmark",
            "f:26: there is no interface `wan`; known: lan",
        ),
        (
            "[[service]]\nmark = 10\n",
            "[[service]]\nmark = 0\n",
            "f:30: mark of 0 is out of range; 1 to 4294967295",
        ),
        (
            "[[service]]\nmark = 10\n",
            "[[service]]\nmark = 10\nprotocol = \"tcp\"\n",
            "f:31: a service by `mark` has no protocol; leave one of the two away",
        ),
        (
            "\"flag-1\", \"flag-3\"",
            "\"sh-port\"",
            "f:32: scheduler wlc has no flag `sh-port`; one of flag-1, flag-2, flag-3",
        ),
        (
            "address = \"[fd00::9]:5060\"\nprotocol = \"udp\"",
            "address = \"[fd00::9]:5060\"\nprotocol = \"tcp\"",
            "f:51: a tcp service has no state udp; leave it away",
        ),
        (
            "address = \"[fd00::9]:80\"\nprotocol = \"tcp\"",
            "address = \"[fd00::9]:80\"\nprotocol = \"tcp\"\none-packet = true",
            "f:62: one-packet scheduling is for UDP services only; leave it away",
        ),
        ("netmask = 64", "netmask = 129", "f:48: netmask `129` is no prefix length, such as 64"),
        ("netmask = 64", "netmask = 0", "f:48: netmask of 0 bits is out of range; 1 to 128 for this family"),
        ("\"sip\"", "\"sap\"", "f:49: there is no persistence engine `sap`; known: sip"),
        (
            "\"proxy-v2\"",
            "\"toa\"",
            "f:50: client-address toa is not for udp; proxy-v2 does TCP and UDP, the others TCP",
        ),
        (
            "[[service]]\naddress = \"[fd00::9]:5060\"",
            "[[service]]\nfamily = \"ipv6\"\naddress = \"[fd00::9]:5060\"",
            "f:45: family belongs to a service by `mark`; an address says its own",
        ),
        (
            "sctp-init1",
            "sctp-init0",
            "f:57: unknown key `sctp-init0` in [service.timeouts]; known: tcp, tcp-fin, tcp-none",
        ),
        (
            "tcp = 100, ",
            "tcp = 100, tcp-established = 9, ",
            "f:65: tcp-established and its other name are both given; leave one away",
        ),
        (
            "forward = \"fullnat\"",
            "forward = \"nat\"",
            "f:67: a nat server of this service must have an IPv6 address; of the other family may be tun and fullnat",
        ),
        (
            "tunnel-port = 6080\n",
            "",
            "f:69: [[service.server]] needs `tunnel-port`, such as tunnel-port = 6080",
        ),
        (
            "tunnel = \"gue\"",
            "tunnel = \"gre\"",
            "f:73: only a gue tunnel has a port; leave tunnel-port away",
        ),
        (
            "tunnel-checksum = \"csum\"",
            "tunnel-checksum = \"remcsum\"",
            "f:81: a gre tunnel has no remcsum; none or csum",
        ),
        (
            "forward = \"tun\"\ntunnel = \"gre\"",
            "forward = \"nat\"\ntunnel = \"gre\"",
            "f:80: a nat server has no tunnel; only tun servers have",
        ),
        (
            "forward = \"tun\"\ntunnel = \"gre\"\ntunnel-checksum = \"csum\"\n",
            "forward = \"nat\"\n",
            "f:80: a nat server has no tunnel; only tun servers have",
        ),
        (
            "fd00:20::200-fd00:20::203\", \"192.168.20.200\"",
            "192.168.20.200\"",
            "f:82: server [fd00:20::7]:80 has tunnel-source `local` but service tcp [fd00::9]:80 has no IPv6 local address; give the service a `local-pool` (or ipvsadm -P)",
        ),
        (
            "tunnel-source = \"local\"",
            "tunnel-source = \"pool\"",
            "f:82: tunnel-source `pool` does not exist; one of \"interface\", \"local\"",
        ),
        (
            "upper-threshold = 9",
            "upper-threshold = 2147483648",
            "f:75: upper threshold 2147483648 is out of range; 0 to 2147483647",
        ),
        ("tcp-time-wait = 20", "tcp-time-wait = 0", "f:85: tcp-time-wait of 0 is out of range; 1 to 2678400"),
        ("drop_entry = 3", "drop_entry = 4", "f:88: drop_entry of 4 is out of range; 0 to 3"),
        (
            "snat_reroute = 1",
            "snat_reroute = 0",
            "f:93: snat_reroute can only be 1 here: answers of servers are always routed by their new source",
        ),
    ];
    let mut wrong = String::new();
    for (from, to, error) in cases {
        let found = changed(from, to);
        if !found.iter().any(|line| line.starts_with(error)) {
            wrong += &format!("{from} -> {to}:\n{}\nwanted\n{error}\n", found.join("\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_link_local_gateway_needs_one_link() {
    let interface = |name: &str, vlan| {
        format!(
            "[[interface]]\nname = \"{name}\"\nport = \"p\"\nvlan = {vlan}\naddresses = [\"fe80::1/64\"]\n"
        )
    };
    let route = "[[route]]\nto = \"::/0\"\nvia = \"fe80::fe\"\n";
    let port = "[[port]]\nname = \"p\"\ndevice = \"net_null0\"\n";
    Config::parse("f", &format!("{port}{}{route}", interface("a", 1))).unwrap();
    let two = errors(&format!("{port}{}{}{route}", interface("a", 1), interface("b", 2)));
    assert_eq!(
        two,
        [
            "f:16: gateway fe80::fe is link-local and several interfaces have that subnet; give its global address"
        ]
    );
}

const TWO_LINKS: &str = r#"[[port]]
name = "p"
device = "net_null0"
[[interface]]
name = "a"
port = "p"
addresses = ["192.0.2.9/24", "fd00:2::9/64"]
[[route]]
to = "0.0.0.0/0"
"#;

#[test]
fn a_route_has_one_gateway_or_several() {
    let hops = |text: &str| {
        let config =
            Config::parse("f", &format!("{TWO_LINKS}{text}\n")).unwrap_or_else(|e| panic!("{text}: {e}"));
        let again = Config::parse("f", &to_toml(&config)).unwrap();
        assert_eq!(again.state, config.state, "{}", to_toml(&config));
        let hops = config.state.routes[0].target.next_hops();
        hops.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(hops("via = \"192.0.2.1\""), ["192.0.2.1"]);
    assert_eq!(hops("via = [\"192.0.2.1\"]"), ["192.0.2.1"]);
    let two = ["192.0.2.1", "192.0.2.2"];
    assert_eq!(hops("via = [\"192.0.2.1\", \"192.0.2.2\"]"), two);
    assert_eq!(hops("next-hop = [{ via = \"192.0.2.1\" }, { via = \"192.0.2.2\" }]"), two);
    let weighted = ["192.0.2.1 weight 2", "192.0.2.2"];
    assert_eq!(hops("next-hop = [{ via = \"192.0.2.1\", weight = 2 }, { via = \"192.0.2.2\" }]"), weighted);
    let tables =
        "[[route.next-hop]]\nvia = \"192.0.2.1\"\nweight = 2\n[[route.next-hop]]\nvia = \"192.0.2.2\"";
    assert_eq!(hops(tables), weighted);
}

#[test]
fn what_is_wrong_with_a_gateway_is_said_where_it_stands() {
    let many: Vec<String> = (10..43).map(|n| format!("\"192.0.2.{n}\"")).collect();
    let many = format!("via = [{}]", many.join(", "));
    let cases = [
        ("via = []", "f:10: a route has 1 to 32 gateways, not 0"),
        (&*many, "f:10: a route has 1 to 32 gateways, not 33"),
        ("via = [\"192.0.2.1\", \"none\"]", "f:10: via `none` is not an IP address, such as 172.16.100.254"),
        (
            "via = [\"192.0.2.1\",\n\"192.0.2.1\"]",
            "f:11: gateway 192.0.2.1 is there twice; give it once, with a weight in `next-hop`",
        ),
        (
            "via = [\"192.0.2.1\",\n\"fd00:2::1\"]",
            "f:11: gateway fd00:2::1 and destination 0.0.0.0/0 are of two families",
        ),
        (
            "next-hop = [{ via = \"192.0.2.1\" },\n{ via = \"192.0.2.9\", weight = 2 }]",
            "f:11: gateway 192.0.2.9 is the director's own address; give the router's",
        ),
        ("next-hop = [{ via = \"192.0.2.1\", weight = 0 }]", "f:10: weight of 0 is out of range; 1 to 256"),
        (
            "next-hop = [{ weight = 2 }]",
            "f:10: [[route.next-hop]] needs `via`, such as via = \"172.16.100.254\"",
        ),
        (
            "next-hop = [{ via = \"192.0.2.1\", dev = \"a\" }]",
            "f:10: unknown key `dev` in [[route.next-hop]]; known: via, weight",
        ),
        (
            "via = \"192.0.2.1\"\nnext-hop = [{ via = \"192.0.2.2\" }]",
            "f:11: [[route]] has both `via` and `next-hop`; list all gateways in one, with weights in `next-hop`",
        ),
    ];
    for (text, error) in cases {
        let found = errors(&format!("{TWO_LINKS}{text}\n"));
        assert!(found.contains(&error.to_owned()), "{text}:\n{}\nwanted\n{error}", found.join("\n"));
    }
}
