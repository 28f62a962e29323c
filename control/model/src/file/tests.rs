//! The file as people write it, and what it answers to mistakes.

use super::*;
use crate::state::*;

mod checks;
mod health;
mod nouns;
mod snat;
mod vips;

const EXAMPLE: &str = r#"
[dataplane]
lcores = "1"                 # worker lcores
hugepages = "auto"           # auto | off
sessions = 1048576           # per worker
[[port]]                      # a device
name = "wan"
device = "veth-wan"          # PCI address, vdev string or Linux interface
mac = "02:00:00:00:01:01"    # optional: else the device's own
[[port]]
name = "lan"
device = "veth-lan"
[[interface]]
name = "wan"
port = "wan"
vlan = 0                     # 0 = untagged
mtu = 1500
addresses = ["172.16.100.1/24"]
[[interface]]
name = "lan"
port = "lan"
vlan = 20
addresses = ["192.168.20.1/24", "fd00:20::1/64"]
[[route]]
to = "0.0.0.0/0"
via = "172.16.100.254"
[[route]]
to = "10.0.0.0/8"
type = "unreachable"
[[route]]
to = "10.1.0.0/16"
interface = "lan"
mtu = 1400
[[neighbour]]
address = "192.168.20.7"
mac = "02:00:00:00:20:07"
interface = "lan"
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["192.168.20.200-192.168.20.203"]
ports = "1024-65535"
[[service]]
address = "172.16.100.9:80"
protocol = "tcp"             # tcp | udp
scheduler = "wrr"
persistent = 0               # seconds, 0 = off
netmask = "255.255.255.255"
local-pool = "inside"
[[service.server]]
address = "192.168.20.7:8080"
forward = "nat"              # nat | fullnat | dr | tun
weight = 3
[[service.server]]
address = "192.168.20.8:8080"
forward = "dr"
[[service.server]]
address = "192.168.20.9"
forward = "fullnat"
[[service]]
address = "172.16.100.9:53"
protocol = "udp"
[timeouts]
tcp = 600
[ipvs]
expire_nodest_conn = 1
conn_reuse_mode = 0
"#;

fn errors(text: &str) -> Vec<String> {
    let errors = Config::parse("f", text).expect_err("the file was taken");
    errors.to_string().lines().map(str::to_owned).collect()
}

/// The example with one text replaced, and what is then wrong.
fn changed(from: &str, to: &str) -> Vec<String> {
    assert!(EXAMPLE.contains(from), "{from}");
    errors(&EXAMPLE.replacen(from, to, 1))
}

#[test]
fn lcores_are_a_list_of_workers() {
    let read = |lcores: &str| Dataplane { lcores: lcores.to_owned(), ..Dataplane::default() }.worker_lcores();
    assert_eq!(read("3, 0-2"), Some(vec![3, 0, 1, 2]));
    assert_eq!(read("1,1,0-1"), Some(vec![1, 1, 0, 1]), "more workers than processors");
    for wrong in ["", "1-", "2-1", "1024", "1;2", "-1"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

#[test]
fn the_example_is_read() {
    let config = Config::parse("f", EXAMPLE).unwrap();
    assert_eq!(config.dataplane, Dataplane::default());
    assert_eq!(config.control, ControlSettings::default());
    let state = &config.state;
    assert_eq!(state.ports[0].mac, Some(Mac([2, 0, 0, 0, 1, 1])));
    assert_eq!((state.interfaces[1].vlan, state.interfaces[1].mtu), (20, 1500));
    assert_eq!(state.routes[0].target, RouteTarget::via("172.16.100.254".parse().unwrap()));
    assert_eq!(state.routes[1].target, RouteTarget::Unreachable);
    assert_eq!(state.routes[2].mtu, Some(1400));
    assert_eq!(state.local_pools[0].ports, PortRange { first: 1024, last: 65535 });
    let service = &state.services[0];
    assert_eq!((service.persistent, service.scheduler.as_str()), (None, "wrr"));
    let servers: Vec<_> = service.servers.iter().map(|s| (s.key.port, s.forward, s.weight)).collect();
    assert_eq!(servers, [(8080, Forward::Nat, 3), (80, Forward::Dr, 1), (80, Forward::FullNat, 1)]);
    assert_eq!(state.services[1].scheduler, "wlc");
    assert_eq!(state.timeouts, Timeouts { tcp: 600, ..Timeouts::default() });
    assert!(state.settings.expire_nodest_conn && state.settings.conn_reuse_mode == 0);
}

#[test]
fn what_is_written_reads_back_the_same() {
    let config = Config::parse("f", EXAMPLE).unwrap();
    assert_eq!(Config::parse("g", &to_toml(&config)).unwrap(), config);
    let alone = state_to_toml(&config.state);
    assert!(!alone.contains("[dataplane]"));
    assert_eq!(Config::parse("g", &alone).unwrap().state, config.state);
    assert_eq!(Config::parse("g", "").unwrap(), Config::default());
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let found =
        errors("[[port]]\nname = \"wan\"\nspeed = 3\n[[interface]]\nname = 7\nvlan = 5000\n[[rout]]\n");
    assert_eq!(
        found,
        [
            "f:1: [[port]] needs `device`, such as device = \"eth1\", or a bond",
            "f:3: unknown key `speed` in [[port]]; known: name, device, bond, mac, steering",
            "f:4: [[interface]] needs `port`, such as port = \"wan\"",
            "f:5: name is an integer; it must be a text in quotes",
            "f:6: vlan of 5000 is out of range; 0 to 4094",
            "f:7: unknown key `rout` in the file; known: dataplane, control, port, interface, route, neighbour, \
             local-pool, mark, snat, check, override, service, timeouts, exception, ipvs",
        ]
    );
}

#[test]
fn rules_between_objects_name_line_and_remedy() {
    let cases = [
        ("port = \"wan\"\n", "port = \"wam\"\n", "f:15: there is no port `wam`; known: wan, lan"),
        (
            "via = \"172.16.100.254\"",
            "via = \"172.17.0.1\"",
            "f:26: gateway 172.17.0.1 is on no interface's subnet; known: 172.16.100.0/24, 192.168.20.0/24, fd00:20::/64",
        ),
        (
            "via = \"172.16.100.254\"",
            "via = \"172.16.100.1\"",
            "f:26: gateway 172.16.100.1 is the director's own address; give the router's",
        ),
        (
            "to = \"10.1.0.0/16\"",
            "to = \"10.1.0.1/16\"",
            "f:31: 10.1.0.1/16 has host bits set; 10.1.0.0/16 would be right",
        ),
        (
            "192.168.20.200-192",
            "192.168.20.1-192",
            "f:41: 192.168.20.1 is the address of interface `lan`; a local pool needs addresses of its own",
        ),
        (
            "192.168.20.200-192.168.20.203",
            "192.168.20.209-192.168.20.203",
            "f:41: 192.168.20.209-192.168.20.203 ends before it begins; swap the two",
        ),
        (
            "scheduler = \"wrr\"",
            "scheduler = \"wrrr\"",
            "f:46: there is no scheduler `wrrr`; known: rr, wrr, lc, wlc, lblc, lblcr, dh, sh, sed, nq, fo, ovf, mh, twos",
        ),
        (
            "netmask = \"255.255.255.255\"",
            "netmask = \"255.0.255.0\"",
            "f:48: netmask 255.0.255.0 has holes; such as 255.255.255.0",
        ),
        (
            "local-pool = \"inside\"",
            "local-pool = \"outside\"",
            "f:49: there is no local pool `outside`; known: inside",
        ),
        (
            "local-pool = \"inside\"\n",
            "",
            "f:58: server 192.168.20.9:80 is fullnat but service tcp 172.16.100.9:80 has no local address; give the service a `local-pool` (or ipvsadm -P)",
        ),
        (
            "192.168.20.8:8080\"\nforward = \"dr\"",
            "192.168.20.7:8080\"\nforward = \"fullnat\"",
            "f:55: two servers 192.168.20.7:8080 of service tcp 172.16.100.9:80",
        ),
        (
            "forward = \"dr\"",
            "forward = \"gre\"",
            "f:56: forward `gre` does not exist; one of \"nat\", \"fullnat\", \"dr\", \"tun\", \"local\"",
        ),
        (
            "172.16.100.9:53",
            "172.16.100.9",
            "f:61: port 0 (every port) needs a persistent service; give a port or `persistent`",
        ),
        ("conn_reuse_mode = 0", "conn_reuse_mode = 4", "f:67: conn_reuse_mode of 4 is out of range; 0 to 3"),
        ("weight = 3", "weight = -1", "f:53: weight of -1 is out of range; 0 to 2147483647"),
        (
            "lcores = \"1\"",
            "lcores = \"1-\"",
            "f:3: lcores `1-` is no list of lcores; such as \"1\", \"1-3\" or \"1,3\"",
        ),
        (
            "mac = \"02:00:00:00:20:07\"",
            "mac = \"03:00:00:00:20:07\"",
            "f:36: 03:00:00:00:20:07 is not the address of one station; such as 02:00:00:00:01:01",
        ),
        (
            "type = \"unreachable\"",
            "type = \"unreachable\"\nvia = \"172.16.100.254\"",
            "f:27: [[route]] has more than one target; give one of `via = ADDRESS`, `next-hop = [{ via = ADDRESS, weight = NUMBER }, …]`, `interface = NAME`, `type = \"unreachable\"|\"blackhole\"`",
        ),
        (
            "address = \"172.16.100.9:53\"",
            "address = \"192.168.20.201:53\"",
            "f:41: 192.168.20.201 is the VIP of service udp 192.168.20.201:53; a local pool needs addresses of its own",
        ),
    ];
    for (from, to, error) in cases {
        let found = changed(from, to);
        assert!(found.contains(&error.to_owned()), "{from} -> {to}:\n{}\nwanted\n{error}", found.join("\n"));
    }
}

#[test]
fn two_services_alike_are_refused() {
    let found = changed(
        "address = \"172.16.100.9:53\"\nprotocol = \"udp\"",
        "address = \"172.16.100.9:80\"\nprotocol = \"tcp\"",
    );
    assert_eq!(found, ["f:61: two services tcp 172.16.100.9:80"]);
}

#[test]
fn a_file_that_is_too_long_is_not_looked_at() {
    assert_eq!(
        errors(&" ".repeat(MAX_BYTES + 1)),
        ["f:1: the file has 268435457 bytes; at most 268435456 are read"]
    );
    assert!(read_text(std::io::repeat(b'#')).unwrap_err().to_string().contains("268435456"));
    assert_eq!(read_text(&b"# short"[..]).unwrap(), "# short");
}

#[test]
fn sockets_are_two_and_have_names() {
    let both = "[dataplane]\nsocket = \"/run/x\"\n[control]\nsocket = \"/run/x\"\n";
    assert_eq!(errors(both), ["f:4: socket /run/x is the data plane's too; each process needs its own"]);
    let default = format!("[dataplane]\nsocket = \"{DEFAULT_CONTROL_SOCKET}\"\n");
    assert_eq!(errors(&default).len(), 1);
    let empty = "[dataplane]\nsocket = \"\"\n[control]\nsocket = \" \"\nstate-file = \"\"\n";
    assert_eq!(
        errors(empty),
        [
            "f:2: socket is empty; give a path, such as \"/run/fulcrum/dataplane.sock\"",
            "f:4: socket is empty; give a path, such as \"/run/fulcrum/control.sock\"",
            "f:5: state-file is empty; give a path, such as \"/var/lib/fulcrum/state.toml\"",
        ]
    );
}

#[test]
fn broken_toml_is_named_with_its_line() {
    let found = errors("[[port]]\nname = \n");
    assert!(found[0].starts_with("f:2: not TOML: "), "{found:?}");
}
