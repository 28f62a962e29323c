//! What happens when a process dies, is restarted, tampered with or started twice.

use std::time::{Duration, Instant};

use fulcrum_e2e::Lab;
use fulcrum_e2e::client::{Load, Tally, assert_answered, download, expected, get};
use fulcrum_e2e::director::{Director, Setup};
use fulcrum_e2e::process::{Process, program, wait_for};
use fulcrum_e2e::topology::{self, Topology};

const SERVICES: &str = "
    -A -t 172.16.100.9:80 -s rr
    -a -t 172.16.100.9:80 -r 192.168.20.7:8080 -m
    -a -t 172.16.100.9:80 -r 192.168.20.8:8080 -m
    -A -u 172.16.100.9:5000 -s rr
    -a -u 172.16.100.9:5000 -r 192.168.20.7:5001 -m
    -a -u 172.16.100.9:5000 -r 192.168.20.8:5001 -m";

fn nat(lab: &Lab, setup: &Setup) -> (Topology, Director) {
    let net = topology::nat(lab);
    let director = Director::start(&net.director, lab.directory(), setup, &net.network);
    director.ipvsadm_lines(SERVICES);
    (net, director)
}

/// What takes longer than it should every time is slow; a busy machine holds it up now and then.
fn within_two_seconds(what: &str, mut event: impl FnMut() -> Duration) {
    let mut times = Vec::new();
    let soon = (1..=3).any(|_| {
        times.push(event());
        times.last() <= Some(&Duration::from_secs(2))
    });
    assert!(soon, "{what}: {times:?}");
}

/// Six seconds of requests and datagrams with `event` in the middle: requests without an answer, datagrams
/// without one.
fn losses(lab: &Lab, net: &Topology, name: &str, event: impl FnOnce()) -> (usize, u64) {
    let log = |what: &str| lab.directory().join(format!("{name}.{what}.log"));
    let requests = Load::start(&net.client, "172.16.100.9", 6, &log("requests"));
    let mut command = net.client.command(program("fulcrum-lab"));
    command.args(["load-udp", "172.16.100.9:5000", "10", "10", "6"]);
    let mut datagrams = Process::start(&mut command, log("datagrams"));
    std::thread::sleep(Duration::from_secs(2));
    event();
    let answers: Tally = requests.finish();
    datagrams.wait(Duration::from_secs(20));
    let said = datagrams.log();
    let number = |word: &str| -> u64 {
        let line = said.lines().find_map(|line| line.strip_prefix(word));
        line.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("no `{word}` in {said}"))
    };
    assert!(number("sent") > 1000, "{said}");
    (answers.get("-").copied().unwrap_or(0), number("sent") - number("answered"))
}

#[test]
fn traffic_does_not_notice_that_control_is_killed() {
    let lab = Lab::new("killcontrol");
    let (net, mut director) = nat(&lab, &Setup::TWO);
    // A busy machine loses some traffic now and then, and devices do not always say so. What control's end does to
    // traffic it does every time.
    let mut rounds = Vec::new();
    let unharmed = (1..=3).any(|round| {
        let devices = net.lost() + director.lost();
        let (requests, datagrams) = losses(&lab, &net, &format!("round{round}"), || {
            director.control().kill();
            std::thread::sleep(Duration::from_secs(1));
            director.start_control();
        });
        director.wait_programmed(Duration::from_secs(30));
        rounds.push((requests, datagrams));
        requests == 0 && datagrams <= net.lost() + director.lost() - devices
    });
    assert!(unharmed, "requests and datagrams without an answer, each time: {rounds:?}");
    // What was configured at run time has outlived control, and nothing was pushed twice.
    assert_eq!(director.stats().iter().filter(|row| row.kind != "->").count(), 2);
    assert_answered(&get(&net.client, "172.16.100.9", 4), 4);
}

#[test]
fn a_killed_data_plane_is_programmed_again_within_two_seconds() {
    let lab = Lab::new("killdataplane");
    let (net, mut director) = nat(&lab, &Setup::TWO);
    assert_answered(&get(&net.client, "172.16.100.9", 4), 4);
    let load = Load::start(&net.client, "172.16.100.9", 8, &lab.directory().join("load.log"));
    std::thread::sleep(Duration::from_secs(1));
    within_two_seconds("another data plane, programmed", || {
        let before = director.life();
        director.dataplane().kill();
        std::thread::sleep(Duration::from_secs(1));
        director.start_dataplane();
        let start = Instant::now();
        director.wait_programmed_anew(before, Duration::from_secs(20));
        start.elapsed()
    });
    download(&net.client, "172.16.100.9", lab.directory());
    let answers = load.finish();
    let last: Vec<&String> = answers.keys().filter(|name| *name != "-").collect();
    assert_eq!(last.len(), 2, "{answers:?}");
    assert_answered(&get(&net.client, "172.16.100.9", 4), 4);
}

#[test]
fn tampering_with_the_data_plane_is_repaired_within_two_seconds() {
    use fulcrum_api::dataplane::{self as wire, dataplane_client::DataplaneClient, sync_part::Part};

    let lab = Lab::new("tamper");
    let (net, director) = nat(&lab, &Setup::ONE);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // As if by another controller, and as if by somebody who hides behind the generation that is expected.
    for ahead in [1000, 0] {
        within_two_seconds("the services again", || {
            let held = held_now(&director);
            let clear = fulcrum_api::state::Change {
                change: Some(fulcrum_api::state::change::Change::ClearServices(true)),
            };
            let parts = [
                Part::Begin(wire::SyncBegin { generation: held + ahead, full: false, base: held }),
                Part::Change(clear),
                Part::Commit(wire::SyncCommit {}),
            ];
            let parts = parts.map(|part| wire::SyncPart { part: Some(part) });
            let reply = runtime.block_on(async {
                let channel =
                    fulcrum_api::socket::connect(&director.dataplane_socket()).await.expect("it listens");
                DataplaneClient::new(channel).synchronize(tokio_stream::iter(parts)).await
            });
            reply.expect("the data plane obeys whoever holds its socket");
            let start = Instant::now();
            wait_for("the services again", Duration::from_secs(20), || {
                let answer = net.client.sh("curl -s --max-time 1 http://172.16.100.9/ || echo -");
                answer.starts_with("web").then_some(())
            });
            start.elapsed()
        });
        assert!(director.is_programmed());
    }
    let repairs = director.status().expect("control answers")["link"]["repairs"].as_u64();
    assert!(repairs >= Some(1), "{repairs:?}");
}

fn held_now(director: &Director) -> u64 {
    director.status().expect("control answers")["dataplane"]["generation"].as_u64().expect("a number")
}

#[test]
fn both_processes_leave_the_machine_as_they_found_it() {
    let lab = Lab::new("leave");
    let net = topology::nat(&lab);
    net.director
        .sh("for device in wan lan; do ethtool -K $device tx on gso on tso on gro on >/dev/null; done");
    let look = || {
        net.director.sh(
            "ethtool -k wan; ethtool -k lan; nft list ruleset; tc qdisc show; tc filter show dev wan ingress || true
             ip -o link | sed 's/ qdisc [a-z]*//'; ip addr; ip route; ip neigh
             sysctl -a 2>/dev/null | grep -E '^net.ipv4.(conf|ip_forward)'",
        )
    };
    wait_for("carriers", Duration::from_secs(20), || {
        (!net.director.sh("ip -o link").contains("NO-CARRIER")).then_some(())
    });
    let before = look();
    let mut director = Director::start(&net.director, lab.directory(), &Setup::TWO, &net.network);
    director.ipvsadm_lines(SERVICES);
    assert_answered(&get(&net.client, "172.16.100.9", 4), 4);
    let sockets = [director.socket(), director.dataplane_socket()];
    let (dataplane, control) = director.stop();
    assert!(dataplane.success() && control.success(), "data plane: {dataplane}, control: {control}");
    let after = look();
    let changed: Vec<_> =
        before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
    assert!(after == before, "before and after: {changed:#?}");
    assert!(sockets.iter().all(|socket| !socket.exists()), "sockets are left behind");
}

#[test]
fn a_second_instance_on_the_same_sockets_is_refused() {
    let lab = Lab::new("second");
    let (net, director) = nat(&lab, &Setup::ONE);
    for name in ["fulcrum-dataplane", "fulcrum-control"] {
        let mut command = net.director.command(program(name));
        command.arg("--config").arg(director.config());
        let mut second = Process::start(&mut command, lab.directory().join(format!("second.{name}.log")));
        let status = second.wait(Duration::from_secs(30));
        assert!(!status.success(), "a second {name} must not run");
        let names_it = second.log().contains(lab.directory().to_str().expect("plain text"));
        assert!(names_it, "it says what is taken:\n{}", second.log());
    }
    assert_answered(&get(&net.client, "172.16.100.9", 4), 4);
    assert!(director.is_programmed());
}

#[test]
fn several_directors_work_side_by_side() {
    let lab = Lab::new("several");
    let other = Lab::named(format!("{}-other", std::process::id()));
    let nets = [topology::nat(&lab), topology::dr(&other)];
    let first = Director::start(&nets[0].director, lab.directory(), &Setup::ONE, &nets[0].network);
    let second = Director::start(&nets[1].director, other.directory(), &Setup::ONE, &nets[1].network);
    first.ipvsadm_lines(SERVICES);
    second.ipvsadm_lines(
        "-A -t 192.168.0.210:80 -s rr
         -a -t 192.168.0.210:80 -r 192.168.0.221 -g
         -a -t 192.168.0.210:80 -r 192.168.0.222 -g",
    );
    assert_eq!(get(&nets[0].client, "172.16.100.9", 4), expected([("web7", 2), ("web8", 2)]));
    assert_eq!(get(&nets[1].client, "192.168.0.210", 4), expected([("web221", 2), ("web222", 2)]));
    drop(first);
    assert_eq!(get(&nets[1].client, "192.168.0.210", 4), expected([("web221", 2), ("web222", 2)]));
}

/// Raises the number of huge pages while it lives.
struct HugePages {
    before: u64,
}

const NR_HUGEPAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
const FREE_HUGEPAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

fn read_number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl HugePages {
    /// `None` where the machine has none to give.
    fn reserve(pages: u64) -> Option<HugePages> {
        let before = read_number(NR_HUGEPAGES)?;
        let held = HugePages { before };
        std::fs::write(NR_HUGEPAGES, (before + pages).to_string()).ok()?;
        (read_number(NR_HUGEPAGES)? >= before + pages).then_some(held)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(NR_HUGEPAGES, self.before.to_string());
    }
}

#[test]
fn huge_pages_are_used_where_there_are_some_and_given_back() {
    let lab = Lab::new("hugepages");
    let Some(_pages) = HugePages::reserve(256) else {
        println!("this machine has no huge pages to give: not tested");
        return;
    };
    let free = read_number(FREE_HUGEPAGES);
    let net = topology::nat(&lab);
    let setup = Setup { hugepages: "auto", ..Setup::ONE };
    let mut director = Director::start(&net.director, lab.directory(), &setup, &net.network);
    director.ipvsadm_lines(SERVICES);
    assert_eq!(director.status().expect("control answers")["dataplane"]["hugepages"], true);
    assert!(read_number(FREE_HUGEPAGES) < free);
    download(&net.client, "172.16.100.9", lab.directory());
    director.stop();
    // The kernel gives back what AF_XDP has pinned in its own time.
    wait_for("all huge pages free again", Duration::from_secs(20), || {
        (read_number(FREE_HUGEPAGES) == free).then_some(())
    });
}

#[test]
fn without_huge_pages_it_says_so_and_runs() {
    let lab = Lab::new("nohugepages");
    let (net, director) = nat(&lab, &Setup::ONE);
    assert_eq!(director.status().expect("control answers")["dataplane"]["hugepages"], false);
    assert_eq!(get(&net.client, "172.16.100.9", 2), expected([("web7", 1), ("web8", 1)]));
}

#[test]
fn a_worker_that_hangs_or_panics_is_reported_and_ends_the_process() {
    let lab = Lab::new("fault");
    let (net, mut director) = nat(&lab, &Setup::TWO);
    for fault in ["hang", "panic"] {
        director.dataplane().stop();
        let mut command = net.director.command(program("fulcrum-dataplane"));
        command.arg("--config").arg(director.config()).args(["--watchdog", "1", "--test-fault", fault]);
        let mut faulty = Process::start(&mut command, lab.directory().join(format!("{fault}.log")));
        let status = faulty.wait(Duration::from_secs(30));
        assert!(!status.success(), "{fault}: {status}");
        assert!(faulty.log().contains("worker 0"), "{fault}: {}", faulty.log());
        // The supervisor starts it again, control programs it.
        director.start_dataplane();
        director.wait_programmed(Duration::from_secs(30));
        assert_answered(&get(&net.client, "172.16.100.9", 4), 4);
    }
}
