//! `fulcrum upgrade` of one of two directors behind a router, under traffic.

use std::time::Duration;

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{assert_answered, tally};
use fulcrum_e2e::director::Director;
use fulcrum_e2e::process::{Process, wait_for};
use fulcrum_e2e::server::Server;
use serde_json::Value;

use crate::tor::{Beside, SOON, VIP, announcing, connections, hops, listening, router, wait_hops};

/// Directors choose the server by the packet alone, and take up what the other one has begun; servers answer clients
/// themselves.
fn serving() -> String {
    format!(
        "[ipvs]
         sloppy_tcp = 1
         [[service]]
         address = \"{VIP}:80\"
         protocol = \"tcp\"
         scheduler = \"mh\"
         scheduler-flags = [\"mh-port\"]
         announce = \"always\"
         announce-after = 1
         [[service.server]]
         address = \"192.168.20.7:80\"
         forward = \"dr\"
         [[service.server]]
         address = \"192.168.20.8:80\"
         forward = \"dr\"
         "
    )
}

/// What `fulcrum upgrade --json` has said so far.
fn steps(upgrade: &Process) -> Vec<Value> {
    upgrade.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn begin(lab: &Lab, director: &Director, name: &str) -> Process {
    Process::start(&mut director.command("upgrade --drain 20s --json"), lab.directory().join(name))
}

#[test]
fn an_upgrade_of_one_of_two_directors_loses_no_request() {
    let lab = Lab::new("upgrade");
    let (tor, client) = router(&lab);
    let mut lan = lab.switch("lan");
    lan.attach(&tor, "lan");
    tor.sh("ip addr add 192.168.20.254/24 dev lan
            for device in all lan clients; do sysctl -qw net.ipv4.conf.$device.rp_filter=0; done");
    let _servers = [("web7", "192.168.20.7"), ("web8", "192.168.20.8")].map(|(name, address)| {
        let inside = lab.host(name);
        lan.attach(&inside, "eth0");
        inside.give("eth0", address);
        inside.route("default", "192.168.20.254", "");
        let mut server = Server::new(inside, name, lab.directory());
        server.hold_vip(VIP);
        server.serve_http(&[80]);
        server
    });
    let [first, second] = [1, 2].map(|n| announcing(&lab, &tor, &mut lan, n, &serving()));
    let _tor = listening(&lab, &tor);
    let Beside { inside, director: mut first, daemon: _bird } = first;
    let both = ["10.1.1.1", "10.1.2.1"];
    wait_hops(&tor, &both);

    let stop = lab.directory().join("stop");
    let script = format!(
        "while [ ! -e {} ]; do curl -s --max-time 5 http://{VIP}/ || echo -; sleep 0.01; done",
        stop.display()
    );
    let mut command = client.command("sh");
    command.args(["-uc", &script]);
    let mut load = Process::start(&mut command, lab.directory().join("load"));
    wait_for("both to have their share", SOON, || {
        (connections(&first) > 0 && connections(&second.director) > 0).then_some(())
    });

    // Somebody thinks better of it: all is as it was.
    let pid = first.dataplane().id();
    let mut broken_off = begin(&lab, &first, "broken-off");
    wait_hops(&tor, &both[1..]);
    broken_off.signal("INT");
    assert!(!broken_off.wait(SOON).success());
    let said = broken_off.log();
    assert!(said.contains("interrupted by Ctrl-C\nnothing was started again; VIPs come back"), "{said}");
    wait_hops(&tor, &both);
    assert!(first.dataplane().is_running() && first.dataplane().id() == pid);

    let mut upgrade = begin(&lab, &first, "upgraded");
    // The test is the data plane's supervisor.
    wait_for("the data plane to end", Duration::from_secs(30), || {
        (!first.dataplane().is_running()).then_some(())
    });
    assert_eq!(hops(&tor), both[1..], "its VIP was withdrawn before");
    assert!(first.dataplane().wait(SOON).success(), "it ended in good order");
    let far = steps(&upgrade);
    let at = |name: &str| {
        far.iter().position(|step| step["step"] == name).unwrap_or_else(|| panic!("{name}: {far:#?}"))
    };
    assert!(
        at("versions") < at("withdrawn") && at("withdrawn") < at("drained") && at("drained") < at("restart")
    );
    // Requests went on meanwhile, and none came here.
    assert_eq!(far[at("drained")]["quiet"], true, "{far:#?}");
    first.start_dataplane();
    wait_for("the twin of the interface", SOON, || {
        inside.try_sh("ip addr add 10.1.1.1/24 dev fc-wan").status.success().then_some(())
    });
    let done = upgrade.wait(Duration::from_secs(30));
    assert!(done.success(), "{}", upgrade.log());
    let far = steps(&upgrade);
    let names: Vec<&str> = far.iter().filter_map(|step| step["step"].as_str()).collect();
    assert!(names.ends_with(&["announced", "done"]), "{names:?}");
    wait_hops(&tor, &both);
    wait_for("the first to have its share again", SOON, || (connections(&first) > 0).then_some(()));

    std::fs::write(stop, "").expect("the lab's directory is writable");
    load.wait(SOON);
    let answers = tally(&load.log());
    assert_answered(&answers, answers.values().sum());
    assert!(answers.len() == 2 && answers.values().sum::<usize>() > 30, "{answers:?}");
    let audit = std::fs::read_to_string(lab.directory().join("director1/control.log")).unwrap_or_default();
    assert!(audit.contains("announcements withdrawn") && audit.contains("asked to end"), "{audit}");

    // What nobody else can carry is not cut without being told so.
    first.fulcrum(&format!("service edit tcp {VIP}:80 --announce never"));
    let refused = first.try_fulcrum("upgrade");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("say --force") && said.contains("nothing was done"),
        "{said}"
    );
    let printed = first.fulcrum("upgrade --dry-run");
    assert!(printed.contains("all of its connections are cut") && printed.contains("would ask"), "{printed}");
}
