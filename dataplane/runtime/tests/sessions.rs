//! Listings of sessions: what is asked for comes, and nobody waits for anybody.

mod common;

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use common::{PATIENCE, Place, block_on, checksum, client, lcore, pcap};
use fulcrum_api::convert::address_bytes;
use fulcrum_api::dataplane::{
    ListNeighboursRequest, ListSessionsRequest, Session, SessionEnd, SessionFilter,
};
use fulcrum_api::state::Prefix;
use fulcrum_model::{Family, Forward, MarkRule, Server, ServerKey, Service, ServiceKey};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

const SERVICES: &str = r#"
[[port]]
name = "wan"
device = "DEVICE"
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
forward = "nat"
[[service]]
address = "10.0.0.10:443"
protocol = "tcp"
persistent = 300
[[service.server]]
address = "10.0.0.8:443"
forward = "dr"
"#;

#[test]
fn a_listing_is_of_what_was_asked_for() {
    let place = Place::new(&format!("{}", lcore()), "");
    // Ten clients with ten sessions each, the last two with the other service.
    let client_of = |n: u16| (50 + n % 10) as u8;
    let frames: Vec<_> = (0..100)
        .map(|n| match n % 10 {
            8 | 9 => syn(client_of(n), 1000 + n, 10, 443),
            _ => syn(client_of(n), 1000 + n, 9, 80),
        })
        .collect();
    // And two with a mark.
    let marked = [syn(70, 2000, 11, 8080), syn(71, 2000, 11, 8081)];
    fs::write(place.path("in.pcap"), pcap(&[frames, marked.to_vec()].concat())).unwrap();
    let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", place.path("in.pcap").display());
    let config = fs::read_to_string(place.path("fulcrum.toml")).unwrap();
    fs::write(place.path("fulcrum.toml"), config + &SERVICES.replace("DEVICE", &device)).unwrap();
    let running = place.start(None, &[]);
    let mut state = place.state();
    let destination = Some("10.0.0.11/32".parse().unwrap());
    state.marks.push(MarkRule { destination, ..MarkRule::new(7) });
    let mut by_mark = Service::new(ServiceKey::Mark { family: Family::V4, mark: 7 }, "rr");
    let server = ServerKey { address: "10.0.0.8".parse().unwrap(), port: 0 };
    by_mark.servers.push(Server::new(server, Forward::Dr));
    state.services.push(by_mark);
    running.program(1, &state);
    let deadline = Instant::now() + PATIENCE;
    while running.status().workers[0].sessions < 104 {
        assert!(Instant::now() < deadline, "{:?}", running.status());
        std::thread::sleep(Duration::from_millis(10));
    }

    let listed = |limit, filter: SessionFilter| -> Result<Vec<Session>, Status> {
        let socket = place.socket();
        block_on(async move {
            let mut client = client(&socket).await.unwrap();
            let asked = ListSessionsRequest { limit, filter: Some(filter) };
            let mut chunks = client.list_sessions(asked).await?.into_inner();
            let mut all = Vec::new();
            while let Some(chunk) = chunks.message().await? {
                all.extend(chunk.sessions);
            }
            Ok(all)
        })
    };
    let count = |filter: SessionFilter| listed(0, filter).unwrap().len();
    let all = SessionFilter::default;
    assert_eq!(count(all()), 104);
    assert_eq!(listed(7, all()).unwrap().len(), 7);
    assert_eq!(count(SessionFilter { client: end("10.0.0.53/32", None), ..all() }), 10);
    assert_eq!(count(SessionFilter { client: end("10.0.0.52/31", None), ..all() }), 20);
    assert_eq!(count(SessionFilter { client: end("10.0.0.53/32", Some(1013)), ..all() }), 1);
    assert_eq!(count(SessionFilter { client: end("::/0", None), ..all() }), 0);
    assert_eq!(count(SessionFilter { r#virtual: end("10.0.0.9/32", Some(80)), ..all() }), 80);
    assert_eq!(count(SessionFilter { server: end("10.0.0.8/32", None), template: Some(true), ..all() }), 2);
    assert_eq!(count(SessionFilter { server: end("10.0.0.8/32", None), template: Some(false), ..all() }), 22);
    assert_eq!(count(SessionFilter { local: end("0.0.0.0/0", None), ..all() }), 0);
    assert_eq!(count(SessionFilter { state: "syn_recv".into(), ..all() }), 102);
    assert_eq!(count(SessionFilter { protocol: Some(17), ..all() }), 0);
    assert_eq!(count(SessionFilter { worker: Some(0), protocol: Some(6), ..all() }), 104);
    let keys: Vec<ServiceKey> = state.services.iter().map(|service| service.key).collect();
    assert_eq!(count(SessionFilter { service: Some((&keys[0]).into()), ..all() }), 80);
    assert_eq!(count(SessionFilter { service: Some((&keys[1]).into()), ..all() }), 22);
    assert_eq!(count(SessionFilter { service: Some((&keys[2]).into()), ..all() }), 2);
    assert_eq!(count(SessionFilter { mark: Some(0), ..all() }), 102);
    let marked = listed(0, SessionFilter { mark: Some(7), ..all() }).unwrap();
    assert_eq!(marked.iter().map(|session| session.mark).collect::<Vec<_>>(), [7, 7]);
    let both = SessionFilter { service: Some((&keys[0]).into()), client: end("10.0.0.50/32", None), ..all() };
    let found = listed(3, both).unwrap();
    assert_eq!(found.len(), 3, "the limit is of what passed");
    assert!(found.iter().all(|session| session.client == [10, 0, 0, 50]));

    let refused = |filter: SessionFilter| listed(0, filter).unwrap_err();
    let worker = refused(SessionFilter { worker: Some(1), ..all() });
    assert_eq!(
        (worker.code(), worker.message()),
        (Code::InvalidArgument, "filter.worker: 1: the last worker is 0")
    );
    assert!(refused(SessionFilter { protocol: Some(256), ..all() }).message().contains("more than 255"));
    let port = refused(SessionFilter { server: end("10.0.0.8/32", Some(70_000)), ..all() });
    assert_eq!(port.message(), "filter.server.port: 70000 is more than 65535");
    let mut long = end("10.0.0.8/32", None);
    long.as_mut().unwrap().network.as_mut().unwrap().length = 33;
    assert_eq!(refused(SessionFilter { client: long, ..all() }).code(), Code::InvalidArgument);
    let unknown = fulcrum_api::state::ServiceKey { port: 81, ..(&keys[0]).into() };
    assert_eq!(refused(SessionFilter { service: Some(unknown), ..all() }).code(), Code::NotFound);
    running.stop();
}

#[test]
fn a_client_that_does_not_read_its_listing_keeps_nobody_waiting() {
    let place = Place::new(&format!("{}", lcore()), "");
    // More sessions than fit between a data plane and a client that does not read.
    let frames: Vec<_> = (1..60_001).map(|port| syn(50, port, 9, 80)).collect();
    fs::write(place.path("in.pcap"), pcap(&frames)).unwrap();
    let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", place.path("in.pcap").display());
    let config = fs::read_to_string(place.path("fulcrum.toml")).unwrap().replace("4096", "65536");
    // The driver wants room for the whole capture at once, and each port brings some.
    let idle: String =
        (1..10).map(|n| format!("[[port]]\nname = \"{n}\"\ndevice = \"net_ring{n}\"\n")).collect();
    fs::write(place.path("fulcrum.toml"), config + &idle + &SERVICES.replace("DEVICE", &device)).unwrap();
    let running = place.start(None, &[]);
    running.program(1, &place.state());
    let deadline = Instant::now() + PATIENCE;
    while running.status().workers[0].sessions < 50_000 {
        assert!(Instant::now() < deadline, "{:?}", running.status());
        std::thread::sleep(Duration::from_millis(10));
    }
    block_on(async {
        let mut stuck = client(&place.socket()).await.unwrap();
        let unread =
            stuck.list_sessions(ListSessionsRequest { limit: 0, ..Default::default() }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let others = async {
            let mut client = client(&place.socket()).await.unwrap();
            client.list_neighbours(ListNeighboursRequest {}).await.unwrap();
            client
                .list_sessions(ListSessionsRequest { limit: 10, ..Default::default() })
                .await
                .unwrap()
                .into_inner()
                .next()
                .await
        };
        let chunk = tokio::time::timeout(PATIENCE / 2, others).await.expect("an answer");
        assert_eq!(chunk.unwrap().unwrap().sessions.len(), 10);
        drop(unread);
    });
    running.stop();
}

/// One end of sessions.
fn end(network: &str, port: Option<u32>) -> Option<SessionEnd> {
    let (address, length) = network.split_once('/').unwrap();
    let address = address_bytes(address.parse::<IpAddr>().unwrap());
    Some(SessionEnd { network: Some(Prefix { address, length: length.parse().unwrap() }), port })
}

/// The start of a connection from 10.0.0.`client` to 10.0.0.`vip`; what is not looked at is left out.
fn syn(client: u8, port: u16, vip: u8, vip_port: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 0x50, 8, 0];
    let mut ip = vec![0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, client, 10, 0, 0, vip];
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    frame.extend(ip);
    frame.extend_from_slice(&port.to_be_bytes());
    frame.extend_from_slice(&vip_port.to_be_bytes());
    frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    frame.resize(60, 0);
    frame
}
