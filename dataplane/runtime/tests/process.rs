//! The process on devices that need neither root nor hardware: its life, its socket, its signals.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{PATIENCE, Place, block_on, checksum, client, lcore, other_lcore, pcap};
use fulcrum_api::dataplane::sync_part::Part;
use fulcrum_api::dataplane::{
    CountersChunk, ListCountersRequest, ListNeighboursRequest, ListSessionsRequest, SyncBegin, SyncCommit,
    ZeroCountersRequest,
};
use fulcrum_api::{changes, fingerprint};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_stream::StreamExt as _;
use tonic::Code;

const RING: &str = r#"
[[port]]
name = "wan"
device = "net_ring0"
mac = "02:00:00:00:01:01"
[[interface]]
name = "wan"
port = "wan"
addresses = ["10.0.0.1/24"]
[[service]]
address = "10.0.0.9:80"
protocol = "tcp"
[[service.server]]
address = "10.0.0.7:8080"
forward = "dr"
"#;

#[test]
fn it_starts_is_programmed_and_ends() {
    let place = Place::new(&format!("{}", lcore()), RING);
    let running = place.start(None, &[]);
    assert_eq!(fs::metadata(place.socket()).unwrap().permissions().mode() & 0o777, 0o600);
    let status = running.status();
    assert_eq!((status.generation, status.acknowledged), (0, 0));
    assert_eq!(status.pid, running.pid() as u64);
    assert!(status.dpdk.starts_with("DPDK 2"), "{}", status.dpdk);
    assert_eq!((status.ports[0].name.as_str(), status.ports[0].driver.as_str()), ("wan", "net_ring"));
    assert_eq!(status.ports[0].mac, "02:00:00:00:01:01");
    assert_eq!((status.workers.len(), status.workers[0].session_limit), (1, 4096));

    let state = place.state();
    running.program(7, &state);
    let status = running.status();
    assert_eq!((status.generation, status.fingerprint), (7, fingerprint(&state)));
    // Nothing comes, so that an adaptive worker mostly sleeps.
    let deadline = Instant::now() + PATIENCE;
    while running.status().workers[0].asleep < 0.3 {
        assert!(Instant::now() < deadline, "{:?}", running.status().workers);
        std::thread::sleep(Duration::from_millis(50));
    }
    // What is said of the machine is the machine's affair.
    assert!(status.warnings.iter().all(|warning| warning.starts_with("host: ")), "{:?}", status.warnings);

    running.signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(running.status().generation, 7, "SIGHUP ends nothing");

    let log = running.stop();
    assert!(log.contains("ended"), "{log}");
    assert!(!place.socket().exists());
}

#[test]
fn the_supervisor_hears_that_it_is_ready_lives_and_ends() {
    let place = Place::new(&format!("{}", lcore()), RING);
    let supervisor = UnixDatagram::bind(place.path("notify")).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut child = place.command(None, &[]).env("NOTIFY_SOCKET", place.path("notify")).spawn().unwrap();
    let hear = |word: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = supervisor.recv(&mut buffer).unwrap_or_else(|error| panic!("{word}: {error}"));
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == word) {
                return;
            }
        }
    };
    hear("READY=1");
    assert!(place.socket().exists(), "ready is said when it answers");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    hear("STOPPING=1");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_socket_may_be_another_users() {
    let place = Place::new(&format!("{}", lcore()), RING);
    let unknown = place.command(None, &["--socket-owner", "no-such-user"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("there is no such user"), "{unknown:?}");
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("not run further: only root gives files away");
    }
    let running = place.start(None, &["--socket-owner", "nobody"]);
    let file = fs::metadata(place.socket()).unwrap();
    // The group is for the next one, which may have no capability to find out by whether this one lives.
    let group = nix::unistd::getegid().as_raw();
    assert_eq!((file.uid(), file.gid(), file.permissions().mode() & 0o777), (65534, group, 0o660));
    running.stop();
}

#[test]
fn what_the_machine_could_do_better_is_said_at_start_and_without_one() {
    let place = Place::new(&format!("{}", lcore()), RING);
    let config = fs::read_to_string(place.path("fulcrum.toml")).unwrap();
    let said = |config: String| {
        fs::write(place.path("fulcrum.toml"), config).unwrap();
        let output = place.command(None, &["--check-host"]).stdout(Stdio::piped()).output().unwrap();
        assert!(output.status.success() && !place.socket().exists(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let poll = said(config.replace("adaptive", "poll"));
    assert!(!poll.is_empty() && poll.lines().all(|line| line.starts_with("host: ")), "{poll}");
    assert!(!said(config.replace("adaptive", "adaptive\"\nhugepages = \"off")).contains("of huge pages "));
    fs::write(place.path("fulcrum.toml"), config.replace("adaptive", "poll")).unwrap();
    let running = place.start(None, &[]);
    let mut warnings = running.status().warnings;
    if warnings.is_empty() {
        warnings.push("host: nothing to be said".to_owned());
    }
    assert_eq!(warnings, poll.lines().collect::<Vec<_>>());
    running.stop();
}

#[test]
fn every_workers_sessions_are_to_be_on_huge_pages() {
    const SESSIONS: usize = 300_000;
    if !fs::exists("/sys/kernel/mm/transparent_hugepage").unwrap() {
        return eprintln!("not run: this kernel has no transparent huge pages");
    }
    let place = Place::new(&format!("{0},{0}", lcore()), RING);
    let config = fs::read_to_string(place.path("fulcrum.toml")).unwrap();
    fs::write(place.path("fulcrum.toml"), config.replace("4096", &SESSIONS.to_string())).unwrap();
    let running = place.start(None, &[]);
    let maps = fs::read_to_string(format!("/proc/{}/smaps", running.pid())).unwrap();
    running.stop();
    let (mut size, mut advised) = (0, 0);
    for line in maps.lines() {
        if let Some(kib) = line.strip_prefix("Size:") {
            size = kib.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10;
        }
        // The kernel was asked for huge pages there.
        if line.strip_prefix("VmFlags:").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hg")) {
            advised += size;
        }
    }
    // Those that only sessions of IPv6 need are beside.
    let tables = 2 * SESSIONS * 100;
    assert!(advised > tables, "{advised} of {tables} bytes");
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let place = Place::new(&format!("{}", lcore()), RING);
    let running = place.start(None, &[]);
    let state = place.state();
    running.program(3, &state);
    let held = |running: &common::Running| (running.status().generation, running.status().fingerprint);
    let before = held(&running);

    let begin = |generation, base| SyncBegin { generation, full: false, base };
    let refused = running.synchronize(begin(4, 2), &state).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("holds generation 3"), "{refused}");
    let change = Part::Change(changes(&state)[1].clone());
    for parts in [
        vec![],
        vec![change.clone()],
        vec![Part::Begin(begin(4, 3)), change.clone()],
        vec![Part::Begin(begin(4, 3)), Part::Begin(begin(5, 3)), Part::Commit(SyncCommit {})],
        vec![Part::Begin(begin(4, 3)), Part::Change(Default::default()), Part::Commit(SyncCommit {})],
        vec![Part::Begin(begin(0, 3)), Part::Commit(SyncCommit {})],
    ] {
        let refused = running.send(parts).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert_eq!(held(&running), before);
    }
    running.send(vec![Part::Begin(begin(4, 3)), change, Part::Commit(SyncCommit {})]).unwrap();
    assert_eq!(held(&running), (4, before.1), "the same service put again is the same state");
    running.stop();
}

#[test]
fn a_transaction_without_end_is_refused_while_there_is_memory() {
    let place = Place::new(&format!("{}", lcore()), RING);
    let running = place.start(None, &[]);
    running.program(3, &place.state());
    let before = running.status().fingerprint;
    let service = fulcrum_api::state::Service { scheduler: "x".repeat(2 << 20), ..Default::default() };
    let change =
        fulcrum_api::state::Change { change: Some(fulcrum_api::state::change::Change::PutService(service)) };
    let begin = Part::Begin(SyncBegin { generation: 4, full: true, base: 0 });
    let refused = running.send_all(std::iter::once(begin).chain(std::iter::repeat(Part::Change(change))));
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().ends_with("takes more than 256 MiB: nothing changed"), "{refused}");
    assert_eq!((running.status().generation, running.status().fingerprint), (3, before));
    running.stop();
}

#[test]
fn what_workers_know_can_be_listed() {
    let place = Place::new(&format!("{}", lcore()), RING);
    let running = place.start(None, &[]);
    running.program(1, &place.state());
    block_on(async {
        let mut client = client(&place.socket()).await.unwrap();
        let mut sessions = client
            .list_sessions(ListSessionsRequest { limit: 0, ..Default::default() })
            .await
            .unwrap()
            .into_inner();
        assert!(sessions.next().await.is_none(), "no traffic, no sessions");
        let counters: Vec<_> =
            client.list_counters(ListCountersRequest::default()).await.unwrap().into_inner().collect().await;
        let chunk = counters[0].as_ref().unwrap();
        assert_eq!((chunk.services.len(), chunk.services[0].servers.len()), (1, 1));
        assert!(chunk.total.is_some());
        let key = chunk.services[0].key.clone();
        let other = key.clone().map(|key| fulcrum_api::state::ServiceKey { port: 81, ..key });
        for (key, services) in [(key.clone(), &chunk.services[..]), (other.clone(), &[])] {
            let asked = client.list_counters(ListCountersRequest { key }).await.unwrap();
            let of_one: Vec<_> = asked.into_inner().map(Result::unwrap).collect().await;
            assert_eq!(of_one, [CountersChunk { services: services.to_vec(), total: None }]);
        }
        client.zero_counters(ZeroCountersRequest { key: None }).await.unwrap();
        client.zero_counters(ZeroCountersRequest { key: key.clone() }).await.unwrap();
        let refused = client.zero_counters(ZeroCountersRequest { key: other }).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        client.list_neighbours(ListNeighboursRequest {}).await.unwrap();
    });
    running.stop();
}

#[test]
fn a_ping_in_a_capture_is_answered() {
    let place = Place::new(&format!("{}", lcore()), "");
    // An ARP request and an echo request, again and again: the director learns whom to answer from the first.
    fs::write(place.path("in.pcap"), pcap(&[arp_request(), echo_request()])).unwrap();
    let config = fs::read_to_string(place.path("fulcrum.toml")).unwrap()
        + &RING.replace(
            "net_ring0",
            &format!(
                "net_pcap0,rx_pcap={},tx_pcap={},infinite_rx=1",
                place.path("in.pcap").display(),
                place.path("out.pcap").display()
            ),
        );
    fs::write(place.path("fulcrum.toml"), config).unwrap();
    let running = place.start(None, &[]);
    running.program(1, &place.state());
    let count = |name: &str| {
        running.status().events.iter().find(|event| event.name == name).map_or(0, |event| event.count)
    };
    let deadline = Instant::now() + PATIENCE;
    while count("replied.arp") == 0 || count("replied.echo") == 0 {
        assert!(Instant::now() < deadline, "{:?}", running.status());
        std::thread::sleep(Duration::from_millis(10));
    }
    // Measured every second.
    let worker = loop {
        let worker = running.status().workers.remove(0);
        if worker.burst_fill > 0.0 {
            break worker;
        }
        assert!(Instant::now() < deadline, "{worker:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(worker.queues, ["wan 0"]);
    assert!(worker.busy > 0.0 && worker.busy <= 1.0, "{worker:?}");
    assert!(worker.cycles_per_packet > 1.0 && worker.ns_per_packet > 1.0, "{worker:?}");
    assert!(worker.burst_fill <= 64.0 && worker.rx_pps > 0 && worker.tx_pps > 0, "{worker:?}");
    running.stop();
    let out = fs::read(place.path("out.pcap")).unwrap();
    let reply = echo_reply_head();
    assert!(out.windows(reply.len()).any(|window| window == reply), "an echo reply was written");
}

#[test]
fn a_second_instance_on_the_same_socket_is_refused_and_one_of_its_own_is_not() {
    let place = Place::new(&format!("{}", lcore()), RING);
    let running = place.start(None, &[]);
    let said = place.refused(None, &[]);
    assert!(said.contains("another process already serves"), "{said}");
    assert_eq!(running.status().generation, 0);
    let beside = Place::new(&format!("{}", lcore()), RING);
    beside.start(None, &["--instance", "beside"]).stop();
    running.stop();
}

#[test]
fn a_dead_predecessors_socket_is_replaced() {
    let place = Place::new(&format!("{}", lcore()), RING);
    place.start(None, &[]).kill();
    assert!(place.socket().exists());
    place.start(None, &[]).stop();
    assert!(!place.socket().exists());
}

#[test]
fn mistakes_are_named() {
    let lcore = lcore().to_string();
    for (lcores, rest, expected) in [
        (lcore.as_str(), "", "has no [[port]]"),
        ("1023", RING, "processor 1023 cannot be used"),
        (
            &lcore,
            &RING.replace("net_ring0", "nonsense0"),
            "no PCI device, DPDK device or Linux interface called `nonsense0`",
        ),
        (&lcore, &RING.replace("net_ring0", "net_nonsense0"), "no DPDK driver took `net_nonsense0`"),
        (&lcore, &RING.replace("net_ring0", "0000:ff:1f.7"), "called `0000:ff:1f.7`"),
        (&lcore, "[[port]]\nname = 3\n", "fulcrum.toml:6: "),
    ] {
        let place = Place::new(lcores, rest);
        let said = place.refused(None, &[]);
        assert!(said.contains(expected), "{expected}:\n{said}");
        assert!(!place.socket().exists(), "{expected}");
    }
    let place = Place::new(&lcore, RING);
    fs::remove_file(place.path("fulcrum.toml")).unwrap();
    assert!(place.refused(None, &[]).contains("cannot read"));
}

#[test]
fn a_worker_that_panics_or_hangs_ends_the_process_with_a_report() {
    let place = Place::new(&format!("{}", lcore()), RING);
    let (status, log) = place.start(None, &["--test-fault", "panic"]).wait();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{log}");
    assert!(log.contains(&format!("worker 0 (lcore {}) panicked at ", lcore())), "{log}");
    assert!(log.contains("asked for by --test-fault"), "{log}");

    for fault in ["hang", "spin"] {
        let (status, log) = place.start(None, &["--test-fault", fault, "--watchdog", "1"]).wait();
        assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{log}");
        assert!(log.contains(&format!("worker 0 (lcore {}) has hung for ", lcore())), "{log}");
    }
}

#[test]
fn a_worker_that_is_kept_from_its_processor_is_warned_about_and_goes_on() {
    let lcore = other_lcore();
    let place = Place::new(&lcore.to_string(), RING);
    // One that polls wants all of the processor; of what it gets as the least of all threads it is content with a
    // few milliseconds in minutes.
    let config = fs::read_to_string(place.path("fulcrum.toml")).unwrap().replace("adaptive", "poll");
    fs::write(place.path("fulcrum.toml"), config).unwrap();
    let running = place.start(None, &["--watchdog", "2"]);
    let starving = Starving::of(running.pid(), lcore);
    std::thread::sleep(Duration::from_secs(6));
    drop(starving);
    running.program(1, &place.state());
    let log = running.stop();
    let said = format!("worker 0 (lcore {lcore}) has been kept from its processor for ");
    assert!(log.contains(&said) && !log.contains("has hung"), "{log}");
}

/// A program that has a processor for itself while it lives, before the worker that is pinned there too.
struct Starving {
    hungry: Child,
}

impl Starving {
    fn of(pid: i32, lcore: usize) -> Starving {
        let run = |program: &str, arguments: &[&str]| {
            let status = Command::new(program).args(arguments).status().unwrap();
            assert!(status.success(), "{program} {arguments:?}");
        };
        let pinned = |task: &fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).unwrap();
            status.lines().any(|line| line == format!("Cpus_allowed_list:\t{lcore}"))
        };
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap);
        let workers: Vec<_> = tasks.filter(pinned).collect();
        assert_eq!(workers.len(), 1, "threads pinned to processor {lcore}");
        run("chrt", &["--idle", "--pid", "0", workers[0].file_name().to_str().unwrap()]);
        let lcore = lcore.to_string();
        let hungry = Command::new("taskset").args(["-c", &lcore, "sh", "-c", "while :; do :; done"]).spawn();
        let hungry = hungry.unwrap();
        // Root's are far ahead, anybody else's by three to a thousand.
        let _ = Command::new("renice").args(["-n", "-20", "-p", &hungry.id().to_string()]).output();
        Starving { hungry }
    }
}

impl Drop for Starving {
    fn drop(&mut self) {
        let _ = self.hungry.kill();
        let _ = self.hungry.wait();
    }
}

/// Who has 10.0.0.1? Tell 10.0.0.50.
fn arp_request() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 0x50, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 0x50, 10, 0, 0, 50]);
    frame.extend_from_slice(&[0, 0, 0, 0, 0, 0, 10, 0, 0, 1]);
    frame.resize(60, 0);
    frame
}

/// A ping from 10.0.0.50 to 10.0.0.1.
fn echo_request() -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 0x50, 8, 0];
    let mut ip = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 50, 10, 0, 0, 1];
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    let mut icmp = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    frame.extend(ip);
    frame.extend(icmp);
    frame.resize(60, 0);
    frame
}

/// How the answer's Ethernet header starts: from the port to whoever asked.
fn echo_reply_head() -> Vec<u8> {
    vec![2, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 1, 1, 8, 0, 0x45]
}
