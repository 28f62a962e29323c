//! What `/metrics` and `/healthz` answer: complete, bounded, in nobody's way.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use fulcrum_api::dataplane::*;
use fulcrum_model::Config;
use support::{ControlProcess, DataplaneProcess, Room, until};

/// An address that no other test process has.
fn address(test: u8) -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, high, low, test], 9559))
}

fn config(address: SocketAddr, limit: usize, services: usize, servers: usize) -> String {
    let services = (0..services).map(|n| {
        let servers = (0..servers)
            .map(|m| format!("[[service.server]]\naddress = \"192.168.{m}.7:80\"\nforward = \"dr\"\n"));
        format!(
            "[[service]]\naddress = \"10.{}.{}.9:80\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n",
            n / 250,
            n % 250
        ) + &servers.collect::<String>()
    });
    format!("[control]\nmetrics = \"{address}\"\nmetrics-limit = {limit}\n{}", services.collect::<String>())
}

/// A control process of that configuration with a data plane that counts everything once, and both in sync.
async fn running(room: &Room, text: &str) -> (ControlProcess, DataplaneProcess) {
    std::fs::write(room.path("fulcrum.toml"), text).unwrap();
    let dataplane = DataplaneProcess::start(&room.dataplane(), "a").await;
    {
        let mut held = dataplane.held.lock().unwrap();
        let one = Counters {
            connections: 1,
            in_packets: 5,
            out_packets: 4,
            in_bytes: 500,
            out_bytes: 4000,
            ..Counters::default()
        };
        let state = Config::parse("test", text).unwrap().state;
        let services = state.services.iter().map(|service| ServiceCounters {
            key: Some((&service.key).into()),
            counters: Some(one),
            servers: service
                .servers
                .iter()
                .map(|server| ServerCounters {
                    key: Some((&server.key).into()),
                    counters: Some(one),
                    active: 2,
                    inactive: 1,
                    persistent: 0,
                })
                .collect(),
        });
        let services: Vec<ServiceCounters> = services.collect();
        held.counters = services
            .chunks(256)
            .map(|services| CountersChunk { services: services.to_vec(), total: Some(one) })
            .collect();
        held.status = DataplaneStatus {
            version: "0.1.0".into(),
            workers: vec![Worker { id: 3, busy: 0.5, ..Worker::default() }],
            ports: vec![PortStatus {
                name: "wan \"one\"".into(),
                device: "net_pcap0,rx_pcap=a\\b".into(),
                link: true,
                ..PortStatus::default()
            }],
            drops: vec![NamedCount { name: "no-route".into(), count: 7 }],
            ..DataplaneStatus::default()
        };
    }
    let mut control = room.control().await;
    control.in_sync().await;
    (control, dataplane)
}

/// A request under way.
fn ask(address: SocketAddr, path: &str, accept: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
        .unwrap();
    stream
}

/// Status, head and body of its answer.
fn answer(mut stream: TcpStream) -> (u16, String, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

async fn get(address: SocketAddr, path: &'static str, accept: &'static str) -> (u16, String, String) {
    tokio::task::spawn_blocking(move || answer(ask(address, path, accept))).await.unwrap()
}

async fn metrics(address: SocketAddr) -> String {
    let (status, head, body) = get(address, "/metrics", "*/*").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    body
}

/// Has promtool complain about a page.
fn promtool(page: &str) -> String {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: Debian's package prometheus");
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || !said.is_empty());
    said
}

#[tokio::test]
async fn both_formats_say_the_same_and_prometheus_has_no_complaint() {
    let (room, address) = (Room::new(), address(1));
    let (_control, _dataplane) = running(&room, &config(address, 100, 2, 2)).await;
    let plain = metrics(address).await;
    for line in [
        "# TYPE fulcrum_service_connections_total counter",
        "fulcrum_service_connections_total{service=\"tcp 10.0.1.9:80\"} 1",
        "fulcrum_server_in_bytes_total{service=\"tcp 10.0.0.9:80\",server=\"192.168.1.7:80\"} 500",
        "fulcrum_service_active_sessions{service=\"tcp 10.0.0.9:80\"} 4",
        "fulcrum_dropped_packets_total{reason=\"no-route\"} 7",
        "fulcrum_worker_busy_ratio{worker=\"3\"} 0.5",
        "fulcrum_port_up{port=\"wan \\\"one\\\"\"} 1",
        "fulcrum_dataplane_in_sync 1",
        "# TYPE fulcrum_port_info gauge",
    ] {
        assert!(plain.lines().any(|is| is == line), "no line `{line}` in\n{plain}");
    }
    assert!(plain.contains("device=\"net_pcap0,rx_pcap=a\\\\b\""), "{plain}");
    assert_eq!(promtool(&plain), "");

    let (status, head, open) =
        get(address, "/metrics", "application/openmetrics-text;version=1.0.0,*/*;q=0.1").await;
    assert!(status == 200 && head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(
        open.contains("# TYPE fulcrum_service_in_bytes counter\n# UNIT fulcrum_service_in_bytes bytes\n")
    );
    assert!(open.ends_with("# EOF\n"));
    let names = |page: &str| -> Vec<String> {
        let samples = page.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    assert_eq!(names(&open), names(&plain));
    assert_eq!(get(address, "/", "*/*").await.0, 404);
}

#[tokio::test]
async fn series_are_bounded_and_the_rest_is_summed() {
    let (room, address) = (Room::new(), address(2));
    let (_control, _dataplane) = running(&room, &config(address, 25, 30, 20)).await;
    let page = metrics(address).await;
    let count = |begin: &str| page.lines().filter(|line| line.starts_with(begin)).count();
    assert_eq!(count("fulcrum_server_active_sessions{"), 20);
    assert_eq!(count("fulcrum_service_active_sessions{"), 25);
    assert_eq!(count("fulcrum_vip_held{"), 25);
    for line in [
        "fulcrum_service_active_sessions{service=\"tcp 10.0.24.9:80\"} 40",
        "fulcrum_services 30",
        "fulcrum_servers 600",
        "fulcrum_metrics_services_omitted 5",
        "fulcrum_metrics_servers_omitted 580",
    ] {
        assert!(page.lines().any(|is| is == line), "no line `{line}` in\n{page}");
    }
}

#[tokio::test]
async fn servers_and_what_checks_say_of_them_are_told() {
    let (room, address) = (Room::new(), address(6));
    let text = config(address, 100, 1, 2).replacen(
        "scheduler",
        "checks = [\"web\", \"web2\"]\nquorum = 2\nscheduler",
        1,
    ) + "check-address = \"127.0.0.1\"\ncheck-port = 1\n\
           [[check]]\nname = \"web\"\ntype = \"tcp\"\ninterval = \"100ms\"\nfall = 1\n\
           [[check]]\nname = \"web2\"\ntype = \"tcp\"\ninterval = \"1h\"\nfall = 5\n";
    let text = text.replacen(
        "192.168.0.7:80\"",
        &format!("192.168.0.7:80\"\ncheck-address = \"{}\"\ncheck-port = 9559", address.ip()),
        1,
    );
    let (_control, _dataplane) = running(&room, &text).await;
    let labels = |n: u8| format!("service=\"tcp 10.0.0.9:80\",server=\"192.168.{n}.7:80\"");
    let up = format!("fulcrum_server_state{{{},state=\"up\"}} 1", labels(0));
    let down = format!("fulcrum_server_state{{{},state=\"down\"}} 1", labels(1));
    let page = until("a server up and one down", async || {
        let page = metrics(address).await;
        if page.contains(&up) && page.contains(&down) { Ok(page) } else { Err(page) }
    })
    .await;
    for line in [
        "fulcrum_servers_in_state{state=\"down\"} 1".to_owned(),
        "fulcrum_servers_in_state{state=\"disabled\"} 0".to_owned(),
        "fulcrum_service_quorum{service=\"tcp 10.0.0.9:80\"} 2".to_owned(),
        "fulcrum_service_quorum_lost{service=\"tcp 10.0.0.9:80\"} 1".to_owned(),
        "fulcrum_service_servers_available{service=\"tcp 10.0.0.9:80\"} 1".to_owned(),
        format!("fulcrum_server_effective_weight{{{}}} 1", labels(0)),
        format!("fulcrum_check_verdict{{{},check=\"web\",verdict=\"down\"}} 1", labels(1)),
        format!("fulcrum_check_probes_total{{{},check=\"web2\",result=\"good\"}} 1", labels(0)),
    ] {
        assert!(page.lines().any(|is| is == line), "no line `{line}` in\n{page}");
    }
    assert!(
        page.contains(&format!("fulcrum_check_duration_seconds{{{},check=\"web\"}} 0.", labels(0))),
        "{page}"
    );
    assert_eq!(promtool(&page), "");
    let (status, _, body) = get(address, "/healthz", "*/*").await;
    assert_eq!(status, 200);
    assert!(
        body.contains("\"services that have lost their quorum: 1\"")
            && body.contains("\"servers that are down: 1\""),
        "{body}"
    );
}

#[tokio::test]
async fn a_hundred_scrapes_at_once_ask_the_data_plane_a_few_times() {
    let (room, address) = (Room::new(), address(3));
    let (mut control, dataplane) = running(&room, &config(address, 100, 2, 2)).await;
    let (held, gate) = {
        let held = dataplane.held.clone();
        let gate = held.lock().unwrap().gate.clone();
        (held, gate)
    };
    let closed = gate.write_owned().await;
    let streams: Vec<TcpStream> = (0..100).map(|_| ask(address, "/metrics", "*/*")).collect();
    // The first is waiting for its counters; meanwhile control answers everybody else, and health.
    until("a scrape", async || if held.lock().unwrap().counted > 0 { Ok(()) } else { Err(()) }).await;
    assert!(control.link().await.in_sync);
    assert_eq!(get(address, "/healthz", "*/*").await.0, 200);
    drop(closed);
    let bodies =
        tokio::task::spawn_blocking(|| streams.into_iter().map(answer).collect::<Vec<_>>()).await.unwrap();
    assert!(
        bodies.iter().all(|(status, _, body)| *status == 200 && body.contains("fulcrum_dataplane_up 1\n"))
    );
    let asked = held.lock().unwrap().counted;
    assert!(asked < 20, "the data plane was asked {asked} times");
}

#[tokio::test]
async fn without_a_data_plane_the_rest_is_told_and_health_says_so() {
    let (room, address) = (Room::new(), address(4));
    let (mut control, dataplane) = running(&room, &config(address, 100, 2, 2)).await;
    let (status, head, body) = get(address, "/healthz", "*/*").await;
    assert_eq!((status, body.contains("\"healthy\": true")), (200, true), "{body}");
    assert!(head.contains("application/json"));

    dataplane.held.lock().unwrap().refuse = Some("not today".into());
    let edit = fulcrum_model::Edit::DeleteService(
        Config::parse("t", &config(address, 1, 1, 1)).unwrap().state.services[0].key,
    );
    assert!(!control.edit(&[edit]).await.unwrap().delivered);
    let (status, _, body) = get(address, "/healthz", "*/*").await;
    assert_eq!(status, 503);
    assert!(
        body.contains("does not hold the desired state: the data plane refused the state: not today"),
        "{body}"
    );

    // One that answers nothing any more: the scrape is not its prisoner.
    dataplane.held.lock().unwrap().hang = true;
    let page = metrics(address).await;
    assert!(page.contains("fulcrum_dataplane_up 0\n") && page.contains("fulcrum_services 1\n"), "{page}");
    assert!(!page.contains("fulcrum_worker_sessions{"));
    assert_eq!(promtool(&page), "");
    dataplane.kill();
    until("a lost data plane", async || match get(address, "/healthz", "*/*").await {
        (503, _, body) if body.contains("\"the data plane is not connected: ") => Ok(()),
        other => Err(other),
    })
    .await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let (room, address) = (Room::new(), address(5));
    let _taken = std::net::TcpListener::bind(address).unwrap();
    std::fs::write(room.path("fulcrum.toml"), config(address, 1, 0, 0)).unwrap();
    let output = room.spawn().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains(&format!("cannot serve [control] metrics at {address}: Address already in use")),
        "{said}"
    );
}
