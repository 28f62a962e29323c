//! The classic LVS set-ups, with the addresses that their manuals use: who is connected to whom.
//!
//! Only the network and the servers; services are made by the tests, with ipvsadm's words. Wherever an IPv4 address
//! stands its IPv6 twin is there too ([`twin`]).

use std::time::Duration;

use crate::Lab;
use crate::capture::{Capture, Frames, settle};
use crate::net::{Namespace, Switch, link, twin};
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
    /// Routers, where there are any.
    pub others: Vec<Namespace>,
    switches: Vec<Switch>,
}

/// The client's usual place.
const CLIENT: &str = "172.16.100.50";
/// The director's usual places.
const TWO_ARMS: [(&str, &str); 2] = [("wan", "172.16.100.1"), ("lan", "192.168.20.1")];

/// NAT: VIP 172.16.100.9, DIP 192.168.20.1, servers 192.168.20.7 and .8, whose way out is the director.
#[track_caller]
pub fn nat(lab: &Lab) -> Topology {
    let (client, director) = (lab.host("client"), lab.namespace("director"));
    link(&client, "eth0", &director, "wan");
    client.give("eth0", CLIENT);
    let mut lan = lab.switch("lan");
    lan.attach(&director, "lan");
    let servers = nat_servers(lab, &mut lan);
    let network = interfaces(&TWO_ARMS);
    Topology { client, director, servers, network, others: vec![], switches: vec![lan] }
}

/// Servers 192.168.20.7 and .8 on a switch; their way out is the director, 192.168.20.1.
#[track_caller]
fn nat_servers(lab: &Lab, lan: &mut Switch) -> Vec<Server> {
    let hosts = [("web7", "192.168.20.7"), ("web8", "192.168.20.8")];
    hosts
        .map(|(name, address)| {
            let mut server = on_switch(lab, lan, name, address);
            server.inside.route("default", "192.168.20.1", "");
            server.serve_http(&[8080]);
            server.serve_udp(address, 5001);
            server
        })
        .into()
}

/// Everybody on one segment, the director with one arm; servers hold the VIP and answer clients themselves.
#[track_caller]
fn one_segment(lab: &Lab, prefix: &str, vip: &str, hosts: [&str; 2], tunnel: bool) -> Topology {
    let (client, director) = (lab.host("client"), lab.namespace("director"));
    let mut segment = lab.switch("segment");
    segment.attach(&client, "eth0");
    client.give("eth0", &format!("{prefix}.50"));
    segment.attach(&director, "eth0");
    let servers = hosts.map(|host| {
        let mut server = on_switch(lab, &mut segment, &format!("web{host}"), &format!("{prefix}.{host}"));
        server.hold_vip(vip);
        if tunnel {
            server.decapsulate();
        }
        server.serve_http(&[80]);
        server.serve_udp(vip, 5000);
        server
    });
    let network = interfaces(&[("eth0", &format!("{prefix}.1"))]);
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
    let (client, director) = (lab.host("client"), lab.namespace("director"));
    link(&client, "eth0", &director, "wan");
    client.give("eth0", CLIENT);
    let router = lab.router("router");
    link(&director, "lan", &router, "eth0");
    router.give("eth0", "192.168.20.254");
    let servers = [("web7", "192.168.30.7"), ("web8", "192.168.40.8")].map(|(name, address)| {
        let mut server = behind_router(lab, &router, name, address);
        server.serve_http(&[8080]);
        server.serve_udp(address, 5001);
        server
    });
    let network = [
        interfaces(&TWO_ARMS),
        route("192.168.30", "192.168.20.254"),
        route("192.168.40", "192.168.20.254"),
        format!("[[local-pool]]\nname = \"inside\"\ninterface = \"lan\"\n{pool}\n"),
    ];
    Topology {
        client,
        director,
        servers: servers.into(),
        network: network.concat(),
        others: vec![router],
        switches: vec![],
    }
}

/// A stage for every way of forwarding at once ([`crate::ways`]).
///
/// ```text
///                       ┌── director ──┐ 192.168.20.1
///  client ── 172.16.100 ┤              ├ 192.168.20 ──┬── web1 .7
///     .50               └─── router ───┘ .254         └── web2 .8
///                              └── 192.168.30 ── web3 .9, without a way back to the client
/// ```
/// Servers answer NAT and FULLNAT through the director, DR and TUN through the router.
#[track_caller]
pub fn stage(lab: &Lab) -> Topology {
    let (client, director, router) = (lab.host("client"), lab.namespace("director"), lab.router("router"));
    let mut switches = [lab.switch("wan"), lab.switch("lan")];
    let [wan, lan] = &mut switches;
    wan.attach(&client, "eth0");
    client.give("eth0", CLIENT);
    for (switch, device, address) in [(wan, "wan", "172.16.100.254"), (&mut *lan, "lan", "192.168.20.254")] {
        switch.attach(&director, device);
        switch.attach(&router, device);
        router.give(device, address);
    }
    let mut servers: Vec<Server> = [("web1", "192.168.20.7"), ("web2", "192.168.20.8")]
        .map(|(name, address)| {
            let mut server = on_switch(lab, lan, name, address);
            server.inside.route("default", "192.168.20.1", "");
            server.inside.route("default", "192.168.20.254", "table 100");
            server.decapsulate();
            server.serve_udp(address, 5001);
            for vip in ["172.16.100.10", "172.16.100.11"] {
                server.hold_vip(vip);
                server.inside.sh(&format!(
                    "ip rule add from {vip} lookup 100
                     ip -6 rule add from {} lookup 100",
                    twin(vip)
                ));
                server.serve_udp(vip, 5000);
            }
            server
        })
        .into();
    let mut web3 = behind_router(lab, &router, "web3", "192.168.30.9");
    web3.serve_udp("192.168.30.9", 5001);
    web3.decapsulate();
    web3.hold_vip("172.16.100.11");
    web3.serve_udp("172.16.100.11", 5000);
    servers.push(web3);
    servers.iter_mut().for_each(|server| server.serve_http(&[80, 8080]));
    let network = interfaces(&TWO_ARMS) + &route("192.168.30", "192.168.20.254");
    Topology { client, director, servers, network, others: vec![router], switches: switches.into() }
}

/// VLANs on one trunk: clients in VLAN 100, servers in VLAN 200, the director with one arm in both. The far end of
/// the trunk speaks raw tagged frames.
#[track_caller]
pub fn trunk(lab: &Lab) -> (Topology, Process) {
    let (client, director, far) = (lab.host("client"), lab.namespace("director"), lab.namespace("trunk"));
    link(&far, "trunk", &director, "eth0");
    link(&far, "access100", &client, "eth0");
    client.give("eth0", CLIENT);
    let mut lan = lab.switch("lan");
    lan.attach(&far, "access200");
    let servers = nat_servers(lab, &mut lan);
    let mut command = far.command(program("fulcrum-lab"));
    command.args(["trunk", "trunk", "100:access100", "200:access200"]);
    let pump = Process::start(&mut command, lab.directory().join("trunk.log"));
    pump.wait_said("ready", Duration::from_secs(30));
    let network = port("trunk", "eth0")
        + &interface("wan", "trunk", "vlan = 100", TWO_ARMS[0].1)
        + &interface("lan", "trunk", "vlan = 200", TWO_ARMS[1].1);
    let topology = Topology { client, director, servers, network, others: vec![far], switches: vec![lan] };
    (topology, pump)
}

/// A server with an address on a switch.
#[track_caller]
fn on_switch(lab: &Lab, switch: &mut Switch, name: &str, address: &str) -> Server {
    let inside = lab.host(name);
    switch.attach(&inside, "eth0");
    inside.give("eth0", address);
    Server::new(inside, name, lab.directory())
}

/// A server on a link of its own to a router; it knows the director's subnet and nothing else.
#[track_caller]
fn behind_router(lab: &Lab, router: &Namespace, name: &str, address: &str) -> Server {
    let inside = lab.host(name);
    link(router, name, &inside, "eth0");
    let (subnet, _) = address.rsplit_once('.').expect("an IPv4 address");
    let gateway = format!("{subnet}.254");
    router.give(name, &gateway);
    inside.give("eth0", address);
    inside.route("192.168.20.0/24", &gateway, "");
    Server::new(inside, name, lab.directory())
}

/// Interfaces with an address each, on ports and devices of the same name.
fn interfaces(names: &[(&str, &str)]) -> String {
    names.iter().map(|(name, address)| port(name, name) + &interface(name, name, "", address)).collect()
}

fn port(name: &str, device: &str) -> String {
    format!("[[port]]\nname = \"{name}\"\ndevice = \"{device}\"\n")
}

fn interface(name: &str, port: &str, more: &str, address: &str) -> String {
    let addresses = format!("addresses = [\"{address}/24\", \"{}/64\"]", twin(address));
    format!("[[interface]]\nname = \"{name}\"\nport = \"{port}\"\n{more}\n{addresses}\n")
}

/// A route of the director's configuration to a subnet, written without its last part, and its twin.
pub fn route(subnet: &str, via: &str) -> String {
    let (to6, via6) = (twin(&format!("{subnet}.0")), twin(via));
    format!(
        "[[route]]\nto = \"{subnet}.0/24\"\nvia = \"{via}\"\n[[route]]\nto = \"{to6}/64\"\nvia = \"{via6}\"\n"
    )
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

    /// A network beside that of the packets, 10.99.0, by which the director's host reaches the servers: `manage` on it
    /// belongs to the kernel.
    #[track_caller]
    pub fn manage(&mut self, lab: &Lab) {
        let mut switch = lab.switch("manage");
        let servers = self.servers.iter().map(|server| &server.inside);
        for (end, last) in std::iter::once(&self.director).chain(servers).zip([1, 7, 8, 9]) {
            switch.attach(end, "manage");
            end.sh(&format!("ip addr add 10.99.0.{last}/24 dev manage"));
        }
        self.switches.push(switch);
    }

    /// Pulls all cables of a server that lead to switches, or puts them back.
    pub fn set_link(&self, server: usize, up: bool) {
        self.switches.iter().for_each(|switch| switch.set_link(&self.servers[server].inside, up));
    }

    /// A namespace beside client, director and servers: the router or the trunk's far end.
    pub fn other(&self) -> &Namespace {
        &self.others[0]
    }
}

impl Captures {
    /// Ends the captures and checks the sums of every frame.
    #[track_caller]
    pub fn stop(self) -> Seen {
        settle();
        let seen =
            Seen { client: self.client.end(), servers: self.servers.into_iter().map(Capture::end).collect() };
        let at_servers: usize = seen.servers.iter().map(Frames::check_sums).sum();
        assert!(seen.client.check_sums() > 0 && at_servers > 0, "captures without a single IP packet");
        seen
    }
}
