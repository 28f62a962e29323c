//! `make demo`: real requests through a real director, in all four ways of forwarding, on one machine.
//!
//! ```text
//!                       ┌── director ──┐ 192.168.20.1
//!  client ── 172.16.100 ┤              ├ 192.168.20 ──┬── web1 .7
//!     .50               └─── router ───┘ .254         └── web2 .8
//!                              └── 192.168.30 ── web3 .9, without a way back to the client
//! ```
//! Web servers answer NAT and FULLNAT through the director, DR and TUN through the router.

use std::time::Instant;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{Tally, ask_udp, expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{self, Namespace, Switch, link};
use fulcrum_e2e::process::program;
use fulcrum_e2e::server::Server;

const TAG: &str = "demo";

/// Requests by HTTP and as many by UDP, in each mode.
const REQUESTS: usize = 6;

const NETWORK: &str = r#"
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
"#;

struct Mode {
    title: &'static str,
    vip: &'static str,
    commands: &'static str,
    by_http: [(&'static str, usize); 2],
    by_udp: [(&'static str, usize); 2],
}

const MODES: [Mode; 4] = [
    Mode {
        title: "NAT: the director rewrites the destination, answers come back through it",
        vip: "172.16.100.9",
        commands: "
            -A -t 172.16.100.9:80 -s rr
            -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
            -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m
            -A -u 172.16.100.9:5000 -s rr
            -a -u 172.16.100.9:5000 -r 192.168.20.7:5001 -m
            -a -u 172.16.100.9:5000 -r 192.168.20.8:5001 -m",
        by_http: [("web1", 3), ("web2", 3)],
        by_udp: [("web1", 3), ("web2", 3)],
    },
    Mode {
        title: "DR: only the MAC address changes, servers hold the VIP and answer the client themselves",
        vip: "172.16.100.10",
        commands: "
            -A -t 172.16.100.10:80 -s wlc
            -a -t 172.16.100.10:80 -r 192.168.20.7 -g -w 1
            -a -t 172.16.100.10:80 -r 192.168.20.8 -g -w 2
            -A -u 172.16.100.10:5000 -s rr
            -a -u 172.16.100.10:5000 -r 192.168.20.7 -g
            -a -u 172.16.100.10:5000 -r 192.168.20.8 -g",
        by_http: [("web1", 2), ("web2", 4)],
        by_udp: [("web1", 3), ("web2", 3)],
    },
    Mode {
        title: "TUN: the packet travels to the server inside another, the server answers the client itself",
        vip: "172.16.100.11",
        commands: "
            -A -t 172.16.100.11:80 -s wrr
            -a -t 172.16.100.11:80 -r 192.168.20.7 -i -w 2
            -a -t 172.16.100.11:80 -r 192.168.20.8 -i -w 1
            -A -u 172.16.100.11:5000 -s rr
            -a -u 172.16.100.11:5000 -r 192.168.20.7 -i
            -a -u 172.16.100.11:5000 -r 192.168.20.8 -i",
        by_http: [("web1", 4), ("web2", 2)],
        by_udp: [("web1", 3), ("web2", 3)],
    },
    Mode {
        title: "FULLNAT: both ends are rewritten; servers need no way back to the client, web3 has none",
        vip: "172.16.100.12",
        commands: "
            -A -t 172.16.100.12:80 -s rr
            -P -t 172.16.100.12:80 -z 192.168.20.200
            -P -t 172.16.100.12:80 -z 192.168.20.201
            -a -t 172.16.100.12:80 -r 192.168.20.8:8080 -b
            -a -t 172.16.100.12:80 -r 192.168.30.9:8080 -b
            -A -u 172.16.100.12:5000 -s rr
            -P -u 172.16.100.12:5000 -z 192.168.20.200
            -a -u 172.16.100.12:5000 -r 192.168.20.8:5001 -b
            -a -u 172.16.100.12:5000 -r 192.168.30.9:5001 -b",
        by_http: [("web2", 3), ("web3", 3)],
        by_udp: [("web2", 3), ("web3", 3)],
    },
];

/// Everything that lives while the demo does; the director's processes go first.
struct Stage {
    director: Director,
    client: Namespace,
    _servers: Vec<Server>,
    _others: [Namespace; 2],
    _switches: [Switch; 2],
    lab: Lab,
}

pub(crate) fn run(keep: bool) -> Result<(), Box<dyn std::error::Error>> {
    ctrlc::set_handler(|| {
        net::remove_tag(TAG);
        std::process::exit(130);
    })?;
    // What fails says so in words; where in the code it did matters to nobody here.
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        eprintln!("\n{}", text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("something went wrong"));
    }));
    let start = Instant::now();
    println!("Setting the stage: client, director, router and three servers in network namespaces");
    let stage = build();
    println!(
        "fulcrum-dataplane and fulcrum-control are up and agree ({:.1} s)",
        start.elapsed().as_secs_f64()
    );

    let mut wrong = 0;
    for mode in &MODES {
        println!("\n== {}", mode.title);
        for line in mode.commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
            println!("  ipvsadm {line}");
            stage.director.ipvsadm(line);
        }
        let by_http = get(&stage.client, mode.vip, REQUESTS);
        wrong +=
            usize::from(!report(&format!("{REQUESTS} x curl http://{}/", mode.vip), &by_http, mode.by_http));
        let udp = format!("{}:5000", mode.vip);
        let by_udp = ask_udp(&stage.client, &udp, REQUESTS);
        wrong += usize::from(!report(&format!("{REQUESTS} x datagram to {udp}"), &by_udp, mode.by_udp));
    }

    println!("\n== What the director counted");
    let mut sessions = 0;
    for listing in ["-Ln --stats", "-Lnc"] {
        let text = stage.director.ipvsadm(listing);
        sessions = text.lines().filter(|line| line.starts_with("TCP ") || line.starts_with("UDP ")).count();
        println!("  ipvsadm {listing}");
        text.lines().for_each(|line| println!("  {line}"));
    }
    let connections: u64 =
        stage.director.stats().iter().filter(|row| row.kind != "->").map(|row| row.numbers[0]).sum();
    let wanted = MODES.len() * REQUESTS * 2;
    if sessions != wanted || connections != wanted as u64 {
        println!("  wrong: {sessions} sessions and {connections} connections, not {wanted} of each");
        wrong += 1;
    }

    println!();
    if keep {
        explain(stage);
    } else {
        drop(stage);
        println!("Everything is removed again ({:.0} s in all).", start.elapsed().as_secs_f64());
    }
    match wrong {
        0 => {
            println!("All {wanted} requests were answered, by the servers that should.");
            Ok(())
        }
        _ => Err(format!("{wrong} of the results above are wrong").into()),
    }
}

/// Removes what `--keep` has left, and what killed runs have.
pub(crate) fn clean() -> Result<(), Box<dyn std::error::Error>> {
    net::remove_tag(TAG);
    net::sweep();
    Ok(())
}

fn build() -> Stage {
    let lab = Lab::named(TAG.to_owned());
    let [client, inside, router] = ["client", "director", "router"].map(|role| lab.namespace(role));
    let mut switches = [lab.switch("wan"), lab.switch("lan")];
    let [wan, lan] = &mut switches;
    wan.attach(&client, "eth0");
    client.sh("ip addr add 172.16.100.50/24 dev eth0");
    wan.attach(&inside, "wan");
    lan.attach(&inside, "lan");
    wan.attach(&router, "wan");
    lan.attach(&router, "lan");
    router.sh("sysctl -qw net.ipv4.ip_forward=1
        ip addr add 172.16.100.254/24 dev wan
        ip addr add 192.168.20.254/24 dev lan");

    let mut servers: Vec<Server> = [("web1", "192.168.20.7"), ("web2", "192.168.20.8")]
        .map(|(name, address)| {
            let place = lab.namespace(name);
            lan.attach(&place, "eth0");
            place.sh(&format!(
                "ip addr add {address}/24 dev eth0
                ip route add default via 192.168.20.1"
            ));
            let mut server = Server::new(place, name, lab.directory());
            server.decapsulate();
            server.serve_udp(&format!("{address}:5001"));
            for vip in ["172.16.100.10", "172.16.100.11"] {
                server.hold_vip(vip);
                server.inside.sh(&format!("ip rule add from {vip} lookup 100"));
                server.serve_udp(&format!("{vip}:5000"));
            }
            server.inside.sh("ip route add default via 192.168.20.254 table 100");
            server
        })
        .into();
    let place = lab.namespace("web3");
    link(&router, "web3", &place, "eth0");
    router.sh("ip addr add 192.168.30.254/24 dev web3");
    place.sh("ip addr add 192.168.30.9/24 dev eth0
        ip route add 192.168.20.0/24 via 192.168.30.254");
    let mut web3 = Server::new(place, "web3", lab.directory());
    web3.serve_udp("192.168.30.9:5001");
    servers.push(web3);
    servers.iter_mut().for_each(|server| server.serve_http(&[80, 8080]));

    let alone = std::thread::available_parallelism().is_ok_and(|n| n.get() == 1);
    let setup = Setup { lcores: if alone { "0" } else { "1" }, hugepages: "auto", ..Setup::ONE };
    let director = Director::start(&inside, lab.directory(), &setup, NETWORK);
    Stage { director, client, _servers: servers, _others: [inside, router], _switches: switches, lab }
}

/// Prints who answered how often, and whether that is right.
fn report(what: &str, got: &Tally, wanted: [(&str, usize); 2]) -> bool {
    let list = |tally: &Tally| {
        tally.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    let wanted = expected(wanted);
    let right = *got == wanted;
    let verdict = if right { "ok".to_owned() } else { format!("WRONG, should be {}", list(&wanted)) };
    println!("  {what:<40} {:<20} {verdict}", list(got));
    right
}

/// Leaves everything as it is and says what can be done with it.
fn explain(stage: Stage) {
    let socket = stage.director.socket();
    println!(
        "Everything is still there. To play with it, as root:
  export FULCRUM_SOCKET={}
  alias ipvsadm='{} ipvsadm'
  ipvsadm -Ln
  ip netns exec fulcrum-{TAG}-client curl http://172.16.100.9/
  ipvsadm -e -t 172.16.100.9:80 -r 192.168.20.7:8080 -m -w 0
  {} status
Logs and the configuration file are in {}. To remove it all:
  {} clean",
        socket.display(),
        program("fulcrum").display(),
        program("fulcrum").display(),
        stage.lab.directory().display(),
        program("fulcrum-lab").display(),
    );
    std::mem::forget(stage);
}
