//! The classic LVS set-ups, with the addresses that their manuals use: who is connected to whom.
//!
//! Only the network and the servers; services are made by the tests, with ipvsadm's words.

use std::time::Duration;

use crate::Lab;
use crate::capture::{Capture, Frames};
use crate::net::{Namespace, Switch, link};
use crate::process::{Process, program};
use crate::server::Server;

/// Namespaces, servers and the director's network configuration.
#[derive(Debug)]
pub struct Topology {
    /// Where clients live.
    pub client: Namespace,
    /// Where the director will live; its devices are `wan` and `lan`, or `eth0` on one arm.
    pub director: Namespace,
    /// The real servers, with HTTP and UDP up.
    pub servers: Vec<Server>,
    /// The ports, interfaces, routes and pools of the director's configuration file.
    pub network: String,
    others: Vec<Namespace>,
    switches: Vec<Switch>,
}

/// NAT: VIP 172.16.100.9, DIP 192.168.20.1, servers 192.168.20.7 and .8, whose way out is the director.
#[track_caller]
pub fn nat(lab: &Lab) -> Topology {
    let (client, director) = (lab.namespace("client"), lab.namespace("director"));
    link(&client, "eth0", &director, "wan");
    client.sh("ip addr add 172.16.100.50/24 dev eth0");
    let mut lan = lab.switch("lan");
    lan.attach(&director, "lan");
    let servers = nat_servers(lab, &mut lan);
    let network = r#"
[[port]]
name = "wan"
device = "wan"
[[port]]
name = "lan"
device = "lan"
[[interface]]
name = "wan"
port = "wan"
addresses = ["172.16.100.1/24"]
[[interface]]
name = "lan"
port = "lan"
addresses = ["192.168.20.1/24"]
"#;
    Topology { client, director, servers, network: network.into(), others: vec![], switches: vec![lan] }
}

/// Servers 192.168.20.7 and .8 on a switch; their way out is the director, 192.168.20.1.
#[track_caller]
fn nat_servers(lab: &Lab, lan: &mut Switch) -> Vec<Server> {
    let hosts = [("web7", "192.168.20.7"), ("web8", "192.168.20.8")];
    hosts
        .map(|(name, address)| {
            let inside = lab.namespace(name);
            lan.attach(&inside, "eth0");
            inside.sh(&format!(
                "ip addr add {address}/24 dev eth0
             ip route add default via 192.168.20.1"
            ));
            let mut server = Server::new(inside, name, lab.directory());
            server.serve_http(&[8080]);
            server.serve_udp(&format!("{address}:5001"));
            server
        })
        .into()
}

/// Everybody on one segment, the director with one arm; servers hold the VIP and answer clients themselves.
#[track_caller]
fn one_segment(lab: &Lab, prefix: &str, vip: &str, hosts: [&str; 2], tunnel: bool) -> Topology {
    let (client, director) = (lab.namespace("client"), lab.namespace("director"));
    let mut segment = lab.switch("segment");
    segment.attach(&client, "eth0");
    client.sh(&format!("ip addr add {prefix}.50/24 dev eth0"));
    segment.attach(&director, "eth0");
    let servers = hosts.map(|host| {
        let name = format!("web{host}");
        let inside = lab.namespace(&name);
        segment.attach(&inside, "eth0");
        inside.sh(&format!("ip addr add {prefix}.{host}/24 dev eth0"));
        let mut server = Server::new(inside, &name, lab.directory());
        server.hold_vip(vip);
        if tunnel {
            server.decapsulate();
        }
        server.serve_http(&[80]);
        server.serve_udp(&format!("{vip}:5000"));
        server
    });
    let network = format!(
        r#"
[[port]]
name = "eth0"
device = "eth0"
[[interface]]
name = "eth0"
port = "eth0"
addresses = ["{prefix}.1/24"]
"#
    );
    Topology { client, director, servers: servers.into(), network, others: vec![], switches: vec![segment] }
}

/// DR: VIP 192.168.0.210 on the servers' loopback, servers 192.168.0.221 and .222.
#[track_caller]
pub fn dr(lab: &Lab) -> Topology {
    one_segment(lab, "192.168.0", "192.168.0.210", ["221", "222"], false)
}

/// TUN: VIP 172.25.67.100, servers 172.25.67.2 and .3 with a decapsulator.
#[track_caller]
pub fn tun(lab: &Lab) -> Topology {
    one_segment(lab, "172.25.67", "172.25.67.100", ["2", "3"], true)
}

/// FULLNAT: VIP 172.16.100.9; behind a router two server subnets, 192.168.30.7 and 192.168.40.8, that know the
/// director's subnet and no way to clients. `pool` is the body of the `[[local-pool]]` named `inside`.
#[track_caller]
pub fn fullnat(lab: &Lab, pool: &str) -> Topology {
    let (client, director) = (lab.namespace("client"), lab.namespace("director"));
    link(&client, "eth0", &director, "wan");
    client.sh("ip addr add 172.16.100.50/24 dev eth0");
    let router = lab.namespace("router");
    link(&director, "lan", &router, "eth0");
    router.sh("sysctl -qw net.ipv4.ip_forward=1
        ip addr add 192.168.20.254/24 dev eth0");
    let servers = [("web7", "192.168.30", "7"), ("web8", "192.168.40", "8")].map(|(name, subnet, host)| {
        let inside = lab.namespace(name);
        link(&router, name, &inside, "eth0");
        router.sh(&format!("ip addr add {subnet}.254/24 dev {name}"));
        inside.sh(&format!(
            "ip addr add {subnet}.{host}/24 dev eth0
             ip route add 192.168.20.0/24 via {subnet}.254"
        ));
        let mut server = Server::new(inside, name, lab.directory());
        server.serve_http(&[8080]);
        server.serve_udp(&format!("{subnet}.{host}:5001"));
        server
    });
    let network = format!(
        r#"
[[port]]
name = "wan"
device = "wan"
[[port]]
name = "lan"
device = "lan"
[[interface]]
name = "wan"
port = "wan"
addresses = ["172.16.100.1/24"]
[[interface]]
name = "lan"
port = "lan"
addresses = ["192.168.20.1/24"]
[[route]]
to = "192.168.30.0/24"
via = "192.168.20.254"
[[route]]
to = "192.168.40.0/24"
via = "192.168.20.254"
[[local-pool]]
name = "inside"
interface = "lan"
{pool}
"#
    );
    Topology { client, director, servers: servers.into(), network, others: vec![router], switches: vec![] }
}

/// VLANs on one trunk: clients in VLAN 100, servers in VLAN 200, the director with one arm in both. The far end of
/// the trunk speaks raw tagged frames.
#[track_caller]
pub fn trunk(lab: &Lab) -> (Topology, Process) {
    let (client, director, far) =
        (lab.namespace("client"), lab.namespace("director"), lab.namespace("trunk"));
    link(&far, "trunk", &director, "eth0");
    link(&far, "access100", &client, "eth0");
    client.sh("ip addr add 172.16.100.50/24 dev eth0");
    let mut lan = lab.switch("lan");
    lan.attach(&far, "access200");
    let servers = nat_servers(lab, &mut lan);
    let mut command = far.command(program("fulcrum-lab"));
    command.args(["trunk", "trunk", "100:access100", "200:access200"]);
    let pump = Process::start(&mut command, lab.directory().join("trunk.log"));
    pump.wait_said("ready", Duration::from_secs(5));
    let network = r#"
[[port]]
name = "trunk"
device = "eth0"
[[interface]]
name = "wan"
port = "trunk"
vlan = 100
addresses = ["172.16.100.1/24"]
[[interface]]
name = "lan"
port = "trunk"
vlan = 200
addresses = ["192.168.20.1/24"]
"#;
    let topology = Topology {
        client,
        director,
        servers,
        network: network.into(),
        others: vec![far],
        switches: vec![lan],
    };
    (topology, pump)
}

/// Captures at the client and at every server.
#[derive(Debug)]
pub struct Captures {
    client: Capture,
    servers: Vec<Capture>,
}

/// What [`Captures`] have seen.
#[derive(Debug)]
pub struct Seen {
    /// At the client's device.
    pub client: Frames,
    /// At each server's device.
    pub servers: Vec<Frames>,
}

impl Topology {
    /// Frames that the kernel's devices on all the ways have lost; a busy machine loses some.
    pub fn lost(&self) -> u64 {
        let servers = self.servers.iter().map(|server| &server.inside);
        let ends = [&self.client, &self.director].into_iter().chain(servers).chain(&self.others);
        ends.map(Namespace::lost).chain(self.switches.iter().map(Switch::lost)).sum()
    }

    /// Starts to capture at both ends of every conversation.
    #[track_caller]
    pub fn capture(&self, lab: &Lab) -> Captures {
        let start = |inside: &Namespace, name: &str| Capture::start(inside, "eth0", lab.directory(), name);
        Captures {
            client: start(&self.client, "client"),
            servers: self.servers.iter().map(|server| start(&server.inside, &server.name)).collect(),
        }
    }

    /// A namespace beside client, director and servers: a router or the trunk's far end.
    pub fn other(&self) -> &Namespace {
        &self.others[0]
    }
}

impl Captures {
    /// Ends the captures and checks the sums of every frame.
    #[track_caller]
    pub fn stop(self) -> Seen {
        let seen = Seen {
            client: self.client.stop(),
            servers: self.servers.into_iter().map(Capture::stop).collect(),
        };
        for frames in std::iter::once(&seen.client).chain(&seen.servers) {
            assert!(frames.check_sums() > 0, "a capture without a single IPv4 packet");
        }
        seen
    }
}
