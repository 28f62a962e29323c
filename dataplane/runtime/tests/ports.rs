//! What ports do for the director, on devices that need neither root nor hardware: RSS, large frames.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{PATIENCE, Place, Running, checksum, lcore, other_lcore, pcap};
use fulcrum_api::dataplane::{DataplaneStatus, PortSteering};

/// Frames of net_null come without end; these two send only.
const PORTS: &str = r#"
[[port]]
name = "wan"
device = "net_null0,no-rx=1"
[[port]]
name = "lan"
device = "net_null1,no-rx=1"
[[port]]
name = "plain"
device = "net_ring0"
"#;

fn steering(lcores: &str, ports: &str) -> Vec<PortSteering> {
    let place = Place::new(lcores, ports);
    let running = place.start(None, &[]);
    let ports = running.status().ports;
    running.stop();
    ports.into_iter().map(|port| port.steering.expect("every port says it")).collect()
}

#[test]
fn ports_say_how_packets_come_to_their_workers() {
    if lcore() == other_lcore() {
        return assert!(steering(&lcore().to_string(), PORTS).iter().all(|port| port.way == "software"));
    }
    let both = format!("{},{}", lcore(), other_lcore());
    let found = steering(&both, PORTS);
    let words = |way: &str, detail: &str| PortSteering {
        way: way.to_owned(),
        detail: detail.to_owned(),
        ..PortSteering::default()
    };
    // These keep a table and a key as they are told to.
    let rss = words("rss", "every hash leads to its owner");
    assert_eq!(found[..2], [rss.clone(), rss.clone()]);
    assert_eq!(found[2], words("software", "the device has no RSS to be set up"));

    let told = PORTS
        .replace("net_null0,no-rx=1\"", "net_null0,no-rx=1\"\nsteering = \"software\"")
        .replace("net_ring0\"", "net_null2,no-rx=1\"\nsteering = \"rss-source\"");
    let found = steering(&both, &told);
    assert_eq!(found[0], words("software", "asked for"));
    assert_eq!(found[2].detail, "the device cannot hash one end alone, as rss-source wants it");
    // The key is now one that repeats, and fits a port that goes by both ends as well.
    assert_eq!(found[1], rss);

    let ruled = PORTS
        .replace("net_null0,no-rx=1\"", "net_null0,no-rx=1\"\nsteering = \"software\"")
        .replace("net_null1,no-rx=1\"", "net_null1,no-rx=1\"\nsteering = \"software\"")
        .replace("net_ring0\"", "net_ring0\"\nsteering = \"flow\"");
    let found = steering(&both, &ruled);
    assert_eq!(found[2].way, "software");
    assert!(found[2].detail.contains("`net_ring0` takes no such rule"), "{found:?}");

    let alone = steering(&lcore().to_string(), PORTS);
    assert!(alone.iter().all(|port| *port == words("software", "there is one worker")), "{alone:?}");
}

#[test]
fn more_workers_than_processors_have_queues_and_hashes_all_the_same() {
    for workers in [3, 8] {
        let place = Place::new(&vec![lcore().to_string(); workers].join(","), PORTS);
        let running = place.start(None, &[]);
        running.program(1, &place.state());
        let status = running.status();
        running.stop();
        let ways: Vec<_> =
            status.ports.iter().flat_map(|port| &port.steering).map(|it| &it.way[..]).collect();
        assert_eq!(ways, ["rss", "rss", "software"]);
        let polled: Vec<_> = status.workers.iter().map(|worker| worker.queues.clone()).collect();
        let queues_of = |n| ["wan", "lan", "plain"].map(|port| format!("{port} {n}")).to_vec();
        assert_eq!(polled, (0..workers).map(queues_of).collect::<Vec<_>>());
        let said = format!("host: lcore {} is given to several workers", lcore());
        assert!(status.warnings.iter().any(|line| line.starts_with(&said)), "{:?}", status.warnings);
    }
}

const LARGE: &str = r#"
[[port]]
name = "wan"
device = "net_pcap0,rx_pcap=IN,tx_pcap=OUT,infinite_rx=1"
mac = "02:00:00:00:01:01"
[[interface]]
name = "wan"
port = "wan"
mtu = 9000
addresses = ["10.0.0.1/24"]
[[neighbour]]
interface = "wan"
address = "10.0.0.50"
mac = "02:00:00:00:00:50"
"#;

/// A ping from 10.0.0.50 to 10.0.0.1, as an IP packet of `length` bytes.
fn echo_request(length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let mut ip = vec![0x45, 0, high, low, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 50, 10, 0, 0, 1];
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    let mut icmp: Vec<u8> = [8, 0, 0, 0, 0x12, 0x34, 0, 1].into();
    icmp.extend((0..length - 28).map(|n| n as u8));
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    [vec![2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 0x50, 8, 0], ip, icmp].concat()
}

/// A data plane whose port reads a capture of `frames`, perhaps again and again, and writes another.
fn with_capture(frames: &[Vec<u8>], again: bool) -> Place {
    let place = Place::new(&lcore().to_string(), "");
    fs::write(place.path("in.pcap"), pcap(frames)).unwrap();
    let ports = LARGE
        .replace("IN", &place.path("in.pcap").display().to_string())
        .replace("OUT", &place.path("out.pcap").display().to_string())
        .replace(",infinite_rx=1", if again { ",infinite_rx=1" } else { "" });
    let config = fs::read_to_string(place.path("fulcrum.toml")).unwrap() + &ports;
    fs::write(place.path("fulcrum.toml"), config).unwrap();
    place
}

fn wait_for(running: &Running, what: impl Fn(&DataplaneStatus) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !what(&running.status()) {
        assert!(Instant::now() < deadline, "{:?}", running.status());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn jumbo_frames_are_answered() {
    let place = with_capture(&[echo_request(9000)], true);
    let running = place.start(None, &[]);
    running.program(1, &place.state());
    wait_for(&running, |status| status.events.iter().any(|event| event.name == "replied.echo"));
    running.stop();
    let out = fs::read(place.path("out.pcap")).unwrap();
    let request = echo_request(9000);
    // All but type and checksum comes back.
    let data = &request[14 + 20 + 4..];
    assert!(out.windows(data.len()).any(|window| window == data), "an echo reply of 9000 bytes was written");
}

#[test]
fn every_queue_is_polled_by_workers_more_or_fewer() {
    for workers in [1, 2, 3, 8] {
        let place = Place::new(&vec![lcore().to_string(); workers].join(","), "");
        // By three queues; all but one frame by the first.
        let files =
            [vec![echo_request(100); 50], vec![], vec![echo_request(100)]].map(|frames| pcap(&frames));
        let mut device = "net_pcap0".to_owned();
        for (file, name) in files.iter().zip(["first", "second", "third"]) {
            fs::write(place.path(name), file).unwrap();
            device += &format!(",rx_pcap={}", place.path(name).display());
        }
        device += &format!(",tx_pcap={}", place.path("out").display());
        let config = fs::read_to_string(place.path("fulcrum.toml")).unwrap();
        let port = format!("[[port]]\nname = \"wan\"\ndevice = \"{device}\"\n");
        fs::write(place.path("fulcrum.toml"), config + &port).unwrap();
        let running = place.start(None, &[]);
        wait_for(&running, |status| {
            let drops = &status.ports[0].drops;
            drops.iter().any(|drop| drop.name == "not-programmed" && drop.count == 51)
        });
        let status = running.status();
        assert_eq!((status.ports[0].rx_queues, status.ports[0].tx_queues), (3, 1));
        let received: Vec<_> = status.workers.iter().map(|worker| worker.rx_packets).collect();
        let expected: &[u64] = match workers {
            1 => &[51],
            2 => &[51, 0],
            3 => &[50, 0, 1],
            _ => &[50, 0, 1, 0, 0, 0, 0, 0],
        };
        assert_eq!(received, expected);
        running.stop();
    }
}

#[test]
fn frames_larger_than_any_interfaces_have_a_name() {
    let place = with_capture(&[echo_request(20_000), echo_request(9000), echo_request(20_000)], false);
    let running = place.start(None, &[]);
    wait_for(&running, |status| {
        let drops = &status.ports[0].drops;
        let of = |name| drops.iter().find(|drop| drop.name == name).map_or(0, |drop| drop.count);
        of("multi-segment") == 2 && of("not-programmed") == 1
    });
    running.stop();
}
