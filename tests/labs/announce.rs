//! Beside routing and redundancy daemons: BIRD announces VIPs that are healthy, keepalived moves them.

use std::path::PathBuf;
use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{assert_answered, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::net::{Namespace, Switch};
use fulcrum_e2e::process::{Process, wait_for};
use fulcrum_e2e::server::Server;

use crate::door::through;
use crate::tor::{Beside, SOON, VIP, announcing, connections, hops, listening, room, router, wait_hops};

/// What a director serves; answers come back to its pool.
fn serving(n: u8) -> String {
    format!(
        "[[local-pool]]
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
    )
}

#[test]
fn bird_announces_the_vips_of_directors_that_serve() {
    let lab = Lab::new("bird");
    let (tor, client) = router(&lab);
    let mut lan = lab.switch("lan");
    let servers = [("web7", "192.168.20.7"), ("web8", "192.168.20.8")].map(|(name, address)| {
        let inside = lab.host(name);
        lan.attach(&inside, "eth0");
        inside.give("eth0", address);
        let mut server = Server::new(inside, name, lab.directory());
        server.serve_http(&[8080]);
        server
    });
    let mut directors = [1, 2].map(|n| announcing(&lab, &tor, &mut lan, n, &serving(n)));
    let _tor = listening(&lab, &tor);
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
