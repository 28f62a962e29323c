//! Beside routing and redundancy daemons: BIRD announces VIPs that are healthy, keepalived moves them.

use std::path::PathBuf;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{assert_answered, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{Namespace, Switch, link};
use fulcrum_e2e::process::{Process, wait_for};
use fulcrum_e2e::server::Server;

use crate::door::through;

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A director with what stands beside it.
pub(super) struct Beside {
    pub(super) inside: Namespace,
    pub(super) director: Director,
    pub(super) daemon: Process,
}

/// BIRD with a configuration, started in a namespace.
pub(crate) fn bird(lab: &Lab, inside: &Namespace, name: &str, configuration: &str) -> Process {
    let file = |end: &str| lab.directory().join(format!("{name}.{end}"));
    std::fs::write(file("conf"), configuration).expect("the lab's directory is writable");
    let mut command = inside.command("bird");
    command.arg("-f").arg("-c").arg(file("conf")).arg("-s").arg(file("ctl")).arg("-P").arg(file("pid"));
    Process::start(&mut command, file("log"))
}

/// Where a director keeps its files.
pub(crate) fn room(lab: &Lab, name: &str) -> PathBuf {
    let room = lab.directory().join(name);
    std::fs::create_dir_all(&room).expect("the lab's directory is writable");
    room
}

/// VIP 10.77.0.9, in no subnet: who announces it gets its packets.
pub(crate) const VIP: &str = "10.77.0.9";

/// A director between the top-of-rack router (10.1.N.254) and the servers, whose answers come back to its pool; BIRD
/// beside it speaks to the router through the exception path.
fn announcing(lab: &Lab, tor: &Namespace, lan: &mut Switch, n: u8) -> Beside {
    let inside = lab.namespace(&format!("director{n}"));
    link(&inside, "wan", tor, &format!("d{n}"));
    tor.sh(&format!("ip addr add 10.1.{n}.254/24 dev d{n}"));
    lan.attach(&inside, "lan");
    let network = format!(
        "announce-interface = \"lo\"
         [[port]]
         name = \"wan\"
         device = \"wan\"
         [[port]]
         name = \"lan\"
         device = \"lan\"
         [[interface]]
         name = \"wan\"
         port = \"wan\"
         addresses = [\"10.1.{n}.1/24\"]
         exception = \"fc-wan\"
         [[interface]]
         name = \"lan\"
         port = \"lan\"
         addresses = [\"192.168.20.{n}/24\"]
         exception = \"fc-lan\"
         [[route]]
         to = \"0.0.0.0/0\"
         via = \"10.1.{n}.254\"
         [[local-pool]]
         name = \"inside\"
         interface = \"lan\"
         addresses = [\"192.168.20.20{n}\"]
         [[service]]
         address = \"{VIP}:80\"
         protocol = \"tcp\"
         scheduler = \"rr\"
         local-pool = \"inside\"
         announce = \"healthy\"
         announce-after = 1
         [[service.check]]
         type = \"tcp\"
         interval = \"300ms\"
         rise = 1
         fall = 2
         [[service.server]]
         address = \"192.168.20.7:8080\"
         forward = \"fullnat\"
         [[service.server]]
         address = \"192.168.20.8:8080\"
         forward = \"fullnat\"
         "
    );
    let director = Director::start(&inside, &room(lab, &format!("director{n}")), &Setup::ONE, &network);
    inside.sh(&format!("ip addr add 10.1.{n}.1/24 dev fc-wan; ip addr add 192.168.20.{n}/24 dev fc-lan"));
    let daemon = bird(
        lab,
        &inside,
        &format!("bird{n}"),
        &format!(
            "router id 10.1.{n}.1;
             protocol device {{ }}
             protocol direct {{ ipv4; interface \"lo\"; }}
             protocol bgp tor {{
               local 10.1.{n}.1 as 65001;
               neighbor 10.1.{n}.254 as 65000;
               hold time 4; keepalive time 1; connect retry time 1; connect delay time 1;
               error wait time 1, 2;
               ipv4 {{ import none; export where source = RTS_DEVICE; next hop self; }};
             }}"
        ),
    );
    Beside { inside, director, daemon }
}

/// The next hops of the VIP at the router.
pub(crate) fn hops(tor: &Namespace) -> Vec<String> {
    let routes = tor.sh(&format!("ip route show {VIP}"));
    let mut hops: Vec<String> = routes
        .split_whitespace()
        .zip(routes.split_whitespace().skip(1))
        .filter(|(word, _)| *word == "via")
        .map(|(_, hop)| hop.to_owned())
        .collect();
    hops.sort();
    hops
}

pub(crate) fn wait_hops(tor: &Namespace, expected: &[&str]) {
    wait_for(&format!("the router to go by {expected:?}"), SOON, || (hops(tor) == expected).then_some(()));
}

/// Connections that each director has forwarded.
pub(crate) fn connections(director: &Director) -> u64 {
    director.stats().first().map_or(0, |service| service.numbers[0])
}

#[test]
fn bird_announces_the_vips_of_directors_that_serve() {
    let lab = Lab::new("bird");
    let (tor, client) = (lab.router("tor"), lab.host("client"));
    tor.sh("sysctl -qw net.ipv4.fib_multipath_hash_policy=1");
    link(&client, "eth0", &tor, "clients");
    tor.sh("ip addr add 10.9.0.254/24 dev clients");
    client.sh("ip addr add 10.9.0.50/24 dev eth0; ip route add default via 10.9.0.254");
    let mut lan = lab.switch("lan");
    let servers = [("web7", "192.168.20.7"), ("web8", "192.168.20.8")].map(|(name, address)| {
        let inside = lab.host(name);
        lan.attach(&inside, "eth0");
        inside.give("eth0", address);
        let mut server = Server::new(inside, name, lab.directory());
        server.serve_http(&[8080]);
        server
    });
    let neighbours = [1, 2].map(|n| {
        format!(
            "protocol bgp d{n} {{
               local 10.1.{n}.254 as 65000;
               neighbor 10.1.{n}.1 as 65001;
               hold time 4; keepalive time 1; connect retry time 1; connect delay time 1;
               error wait time 1, 2;
               ipv4 {{ import all; export none; }};
             }}\n"
        )
    });
    let mut directors = [1, 2].map(|n| announcing(&lab, &tor, &mut lan, n));
    let _tor = bird(
        &lab,
        &tor,
        "tor",
        &format!(
            "router id 10.9.0.254;
             protocol device {{ }}
             protocol kernel {{ ipv4 {{ import none; export all; }}; merge paths on; }}
             {}",
            neighbours.concat()
        ),
    );
    wait_hops(&tor, &["10.1.1.1", "10.1.2.1"]);
    assert_answered(&get(&client, VIP, 40), 40);
    for beside in &directors {
        assert!(connections(&beside.director) > 0, "both have their share");
    }

    // Without servers nobody announces it; with them both do.
    let all = |state: &str| {
        servers.iter().for_each(|server| _ = server.inside.sh(&format!("ip link set eth0 {state}")))
    };
    all("down");
    wait_hops(&tor, &[]);
    let listed = directors[0].director.fulcrum("vip list");
    assert!(listed.contains("not on lo: too few healthy servers"), "{listed}");
    all("up");
    wait_hops(&tor, &["10.1.1.1", "10.1.2.1"]);

    // What is done by hand shows at the router; control's death does not.
    directors[0].director.fulcrum("vip withdraw --for 1m");
    wait_hops(&tor, &["10.1.2.1"]);
    directors[0].director.control().kill();
    directors[0].director.start_control();
    wait_hops(&tor, &["10.1.1.1", "10.1.2.1"]);
    directors[0].director.control().kill();
    std::thread::sleep(Duration::from_millis(500));
    directors[0].director.start_control();
    directors[0].director.wait_programmed(SOON);
    let listed = directors[0].director.fulcrum("vip list");
    assert!(listed.contains("on lo"), "{listed}");
    assert_eq!(hops(&tor), ["10.1.1.1", "10.1.2.1"]);

    // The host's own addresses are left alone, and what nobody wants any more goes.
    directors[0]
        .inside
        .sh(&format!("ip addr add 10.77.0.10/32 dev lo; ip -d addr show dev lo | grep -q {VIP}"));
    directors[0].director.fulcrum(&format!("service delete tcp {VIP}:80"));
    wait_hops(&tor, &["10.1.2.1"]);
    assert!(directors[0].inside.sh("ip addr show dev lo").contains("10.77.0.10/32"));
    let file = directors[0].director.config();
    directors[0].director.fulcrum(&format!("apply {}", file.display()));
    wait_hops(&tor, &["10.1.1.1", "10.1.2.1"]);

    // One is killed: traffic goes on.
    let [first, second] = &mut directors;
    first.director.dataplane().kill();
    wait_hops(&tor, &["10.1.2.1"]);
    let before = connections(&second.director);
    assert_answered(&get(&client, VIP, 20), 20);
    assert_eq!(connections(&second.director) - before, 20);
    wait_for("the VIP to be off the host", SOON, || {
        (!first.inside.sh("ip addr show dev lo").contains(VIP)).then_some(())
    });
    assert!(first.daemon.is_running() && second.daemon.is_running());
}

/// The service of the pair, when it is the director's own file that says it.
const SERVICE: &str = "
    [[service]]
    address = \"192.168.0.210:80\"
    protocol = \"tcp\"
    scheduler = \"rr\"
    [[service.server]]
    address = \"192.168.0.221:80\"
    forward = \"dr\"
    [[service.server]]
    address = \"192.168.0.222:80\"
    forward = \"dr\"
    ";

/// One of a pair on the segment of clients and servers, with keepalived beside it on the exception path. With
/// `virtual_servers` in its file it operates the director, too.
pub(super) fn paired(
    lab: &Lab,
    segment: &mut Switch,
    (n, priority): (u8, u8),
    virtual_servers: Option<&str>,
) -> Beside {
    let inside = lab.namespace(&format!("director{n}"));
    segment.attach(&inside, "eth0");
    let network = format!(
        "vips = \"manual\"
         [[port]]
         name = \"eth0\"
         device = \"eth0\"
         [[interface]]
         name = \"eth0\"
         port = \"eth0\"
         addresses = [\"192.168.0.{n}/24\"]
         exception = \"fc-eth0\"
         {}",
        if virtual_servers.is_some() { "" } else { SERVICE }
    );
    let room = room(lab, &format!("director{n}"));
    let director = Director::start(&inside, &room, &Setup::ONE, &network);
    inside.sh(&format!("ip addr add 192.168.0.{n}/24 dev fc-eth0"));
    let notify = |state: &str, verb: &str| {
        let program = director.command("").get_program().to_owned();
        let socket = director.socket();
        let (program, socket) = (PathBuf::from(program), socket.display());
        format!("notify_{state} \"{} --socket {socket} vip {verb} {MOVED}\"\n", program.display())
    };
    let configuration = format!(
        "global_defs {{ script_user root }}
         vrrp_instance vips {{
           interface fc-eth0
           virtual_router_id 51
           version 3
           priority {priority}
           advert_int 0.5
           virtual_ipaddress {{ {MOVED}/32 dev lo }}
           {}{}{}{}
         }}
         {}",
        notify("master", "take"),
        notify("backup", "release"),
        notify("fault", "release"),
        notify("stop", "release"),
        virtual_servers.unwrap_or_default(),
    );
    let file = |name: &str| room.join(name);
    std::fs::write(file("keepalived.conf"), configuration).expect("the lab's directory is writable");
    let mut command = match virtual_servers {
        Some(_) => through(&director, &inside, "keepalived -n -l -D -c"),
        None => inside.command("keepalived"),
    };
    match virtual_servers {
        Some(_) => command.arg(file("checkers.pid")),
        None => command.args(["-n", "-l", "-D", "-P"]),
    };
    command.arg("-f").arg(file("keepalived.conf"));
    command.arg("-p").arg(file("keepalived.pid")).arg("-r").arg(file("vrrp.pid"));
    let daemon = Process::start(&mut command, lab.directory().join(format!("keepalived{n}.log")));
    Beside { inside, director, daemon }
}

/// VIP of the pair, which the servers have on their loopback interfaces.
pub(super) const MOVED: &str = "192.168.0.210";

/// Whether a director has the VIP.
pub(super) fn held(beside: &Beside) -> bool {
    beside.director.fulcrum("vip list").contains("yes")
}

/// The client, servers 192.168.0.221 and .222, and the segment on which they are.
pub(super) fn around_a_pair(lab: &Lab) -> (Namespace, [Server; 2], Switch) {
    let mut segment = lab.switch("segment");
    let client = lab.host("client");
    segment.attach(&client, "eth0");
    client.give("eth0", "192.168.0.50");
    let servers = ["221", "222"].map(|host| {
        let inside = lab.host(&format!("web{host}"));
        segment.attach(&inside, "eth0");
        inside.give("eth0", &format!("192.168.0.{host}"));
        let mut server = Server::new(inside, &format!("web{host}"), lab.directory());
        server.hold_vip(MOVED);
        server.serve_http(&[80]);
        server
    });
    (client, servers, segment)
}

#[test]
fn keepalived_moves_a_vip_from_a_master_that_dies_to_the_other() {
    let lab = Lab::new("keepalived");
    let (client, _servers, mut segment) = around_a_pair(&lab);
    let mut pair = [(1, 150), (2, 100)].map(|one| paired(&lab, &mut segment, one, None));
    let mac = |beside: &Beside| beside.inside.sh("cat /sys/class/net/fc-eth0/address").trim().to_owned();
    let known = || client.sh(&format!("ip neigh show {MOVED}"));

    wait_for("the first to be master", SOON, || (held(&pair[0]) && !held(&pair[1])).then_some(()));
    assert_eq!(get(&client, MOVED, 4).len(), 2);
    assert!(known().contains(&mac(&pair[0])), "{}", known());

    let other = mac(&pair[1]);
    pair[0].director.dataplane().kill();
    // Nobody asks meanwhile: it is the gratuitous ARP that tells the client.
    wait_for("the client to know the other", SOON, || known().contains(&other).then_some(()));
    assert_eq!(get(&client, MOVED, 4).len(), 2);
    assert!(held(&pair[1]));

    // The one that comes back takes over again, and the other is silent.
    pair[0].director.start_dataplane();
    pair[0].director.wait_programmed(Duration::from_secs(30));
    pair[0].inside.sh("ip addr add 192.168.0.1/24 dev fc-eth0");
    wait_for("the first to be master again", SOON, || (held(&pair[0]) && !held(&pair[1])).then_some(()));
    wait_for("the client to know the first", SOON, || (!known().contains(&other)).then_some(()));
    assert_eq!(get(&client, MOVED, 4).len(), 2);
    assert!(pair.iter_mut().all(|beside| beside.daemon.is_running()));
}
