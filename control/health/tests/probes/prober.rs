//! Many targets at once, as they come and go.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fulcrum_health::{Direct, Limits, Prober, Report, Target, Verdict};
use fulcrum_model::{Check, CheckKind};
use tokio::net::{TcpListener, TcpSocket};

use crate::support::*;
use crate::transports::alive;

fn every(millis: u64) -> Check {
    let interval = Duration::from_millis(millis);
    Check { interval, timeout: interval, rise: 2, fall: 2, ..Check::new("", CheckKind::Tcp) }
}

fn prober() -> Prober {
    Prober::start(Arc::new(Direct), Limits::of_process())
}

/// Waits until the reports are as wanted.
async fn until(prober: &Prober, wanted: impl Fn(&[Report]) -> bool) -> Vec<Report> {
    let mut changes = prober.changes();
    let waiting = async {
        loop {
            changes.mark_unchanged();
            let reports = prober.reports();
            if wanted(&reports) {
                return reports;
            }
            changes.changed().await.unwrap();
            // Not for every change of many.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    done.unwrap_or_else(|_| panic!("{:?}", prober.reports().iter().take(3).collect::<Vec<_>>()))
}

/// Counts the connections to each of this host's addresses.
fn count(listener: TcpListener) -> Arc<Mutex<HashMap<IpAddr, u32>>> {
    let counts = Arc::new(Mutex::new(HashMap::new()));
    let shared = Arc::clone(&counts);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let address = stream.local_addr().unwrap().ip();
            *shared.lock().unwrap().entry(address).or_default() += 1;
        }
    });
    counts
}

#[tokio::test]
async fn a_server_goes_and_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let target = Target::new(&every(100), address.ip(), address.port(), None);
    let prober = prober();
    prober.set_targets([target.clone()]);
    let report = prober.report(&target).unwrap();
    assert_eq!((report.verdict, report.last, report.last_error), (Verdict::Unknown, None, None));
    until(&prober, |reports| reports[0].verdict == Verdict::Up).await;
    drop(listener);
    let down = until(&prober, |reports| reports[0].verdict == Verdict::Down).await.remove(0);
    assert_eq!((down.last_error.as_deref(), down.bad), (Some("connection refused"), 2));
    assert!(down.next > down.last && down.since >= down.last.unwrap());
    let _again = TcpListener::bind(address).await.unwrap();
    let up = until(&prober, |reports| reports[0].verdict == Verdict::Up).await.remove(0);
    assert_eq!(up.last_error, None);
    assert!(up.since > down.since && up.changed > down.changed);
    prober.set_targets([]);
    assert!(prober.reports().is_empty());
}

#[tokio::test]
async fn equal_targets_are_one_probe() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let counts = count(listener);
    let named = |name: &str| Check { name: name.to_owned(), ..every(100) };
    let prober = prober();
    let targets = ["a", "b", "c"].map(|name| Target::new(&named(name), ip("127.0.0.1"), port, None));
    prober.set_targets(targets.clone());
    until(&prober, |reports| reports.len() == 1 && reports[0].verdict == Verdict::Up).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    prober.set_targets([]);
    let asked = counts.lock().unwrap()[&ip("127.0.0.1")];
    assert!(asked <= 8, "{asked} probes in about six intervals");
}

#[tokio::test]
async fn a_target_that_is_gone_is_not_asked_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("process");
    let script = "echo $$ > $1; exec sleep 1000".to_owned();
    let arguments = vec!["-c".into(), script, "script".into(), file.display().to_string()];
    let check = check(CheckKind::Exec { program: "/bin/sh".into(), arguments });
    let prober = prober();
    prober.set_targets([Target::new(&check, ip("127.0.0.1"), 80, None)]);
    let started = || std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'));
    patiently("it runs", started).await;
    let process = std::fs::read_to_string(&file).unwrap();
    prober.set_targets([]);
    patiently("it is killed", || !alive(process.trim())).await;
}

#[tokio::test]
async fn ten_thousand_targets_share_one_thread() {
    const TARGETS: u32 = 10_000;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let listener = socket.listen(4096).unwrap();
    let port = listener.local_addr().unwrap().port();
    let counts = count(listener);
    let one = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let victim = one.local_addr().unwrap();
    let check = every(4000);
    let many = (0..TARGETS - 1).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x7f01_0000 + n)));
    let mut targets: Vec<Target> = many.map(|address| Target::new(&check, address, port, None)).collect();
    let victim = Target::new(&check, victim.ip(), victim.port(), None);
    targets.push(victim.clone());
    let prober = prober();
    prober.set_targets(targets.clone());
    let reports = until(&prober, |reports| reports.iter().all(|report| report.verdict == Verdict::Up)).await;
    assert_eq!(reports.len(), TARGETS as usize);
    drop(one);
    let is_down = |report: &Report| report.verdict == Verdict::Down;
    let reports = until(&prober, |reports| reports.iter().any(is_down)).await;
    let down: Vec<&Report> = reports.iter().filter(|report| report.verdict != Verdict::Up).collect();
    let [report] = &down[..] else { panic!("{} are not up", down.len()) };
    assert_eq!((&report.target, report.last_error.as_deref()), (&victim, Some("connection refused")));
    assert!(report.bad >= 2 && report.unasked == 0);

    // Nobody was asked much more often than another, and nothing was made up: what the prober counts, the server saw. On
    // a busy machine the kernel drops some of what waits to be accepted.
    let reports = prober.reports();
    prober.set_targets([]);
    let asked: Vec<u64> = reports.iter().map(|report| report.good + report.bad).collect();
    let (least, most) = (asked.iter().min().unwrap(), asked.iter().max().unwrap());
    assert!(*least >= 2 && most - least <= 3, "{least} to {most} probes");
    let served = |report: &&Report| report.target != victim;
    let good: u64 = reports.iter().filter(served).map(|report| report.good).sum();
    let came = || u64::from(counts.lock().unwrap().values().sum::<u32>());
    let mut last = 0;
    while came() < good && came() > last {
        last = came();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(came() >= good - good / 50, "{} of {good} came", came());
    let counts = counts.lock().unwrap();
    for report in reports.iter().filter(served) {
        let came = u64::from(counts.get(&report.target.address).copied().unwrap_or_default());
        assert!(came <= report.good + 1, "{}: {came} of {}", report.target, report.good);
        assert_eq!((report.verdict, report.unasked), (Verdict::Up, 0), "{:?}", report.last_error);
    }
}

#[tokio::test]
async fn more_probes_than_fit_wait_for_their_turn() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    count(listener);
    let check = every(3000);
    let targets =
        (0..200).map(|n| Target::new(&check, Ipv4Addr::from_bits(0x7f02_0000 + n).into(), port, None));
    let prober = Prober::start(Arc::new(Direct), Limits { sockets: 2, programs: 1 });
    prober.set_targets(targets);
    until(&prober, |reports| reports.iter().all(|report| report.verdict == Verdict::Up)).await;
}
