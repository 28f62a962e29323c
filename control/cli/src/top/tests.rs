//! The screen as text, key by key. `FULCRUM_WRITE_SNAPSHOTS=1 cargo test` writes what is then to be looked at.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use fulcrum_api::control::{ControlStatus, Link, Status};
use fulcrum_api::dataplane::{
    Counters, CountersChunk, DataplaneStatus, NamedCount, PortStatus, ServerCounters, ServiceCounters, Worker,
};
use fulcrum_model::Config;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

use super::*;

const CONFIG: &str = r#"
[[service]]
address = "172.16.100.9:80"
protocol = "tcp"
scheduler = "wrr"
[[service.server]]
address = "192.168.20.7:8080"
forward = "nat"
weight = 3
[[service.server]]
address = "192.168.20.8:8080"
forward = "nat"
weight = 0
[[service]]
address = "[2001:db8:1234:5678:9abc:def0:1234:5678]:443"
protocol = "udp"
scheduler = "rr"
[[service.server]]
address = "[fd00:20::7]:443"
forward = "dr"
[[service]]
mark = 10
scheduler = "sh"
"#;

/// The director `second` seconds after the first look.
fn sample(start: Instant, second: u64) -> Sample {
    let state = Config::parse("test", CONFIG).unwrap().state;
    let counters = |rate: u64| Counters {
        cps: rate,
        in_pps: rate * 10,
        out_pps: rate * 9,
        in_bps: rate * 1000,
        out_bps: rate * 123_456,
        ..Counters::default()
    };
    let services = std::iter::zip(&state.services, [70, 12_000, 0]).map(|(service, rate)| ServiceCounters {
        key: Some((&service.key).into()),
        counters: Some(counters(rate)),
        servers: service
            .servers
            .iter()
            .map(|server| ServerCounters {
                key: Some((&server.key).into()),
                counters: Some(counters(rate / service.servers.len() as u64)),
                active: rate * 3,
                inactive: rate,
                persistent: 0,
            })
            .collect(),
    });
    let count = |name: &str, count| NamedCount { name: name.into(), count };
    let drops =
        vec![count("no-route", 5 + 20 * second), count("no-service", 1_000_000), count("truncated", 0)];
    let worker = |id, busy| Worker {
        id,
        lcore: id + 1,
        busy,
        asleep: 0.1,
        sessions: 36_210,
        session_limit: 1 << 20,
        rx_pps: 120_700,
        tx_pps: 120_650,
        cycles_per_packet: 312.4,
        burst_fill: 17.2,
        handed_off: 7 * second,
        drops: drops.clone(),
        ..Worker::default()
    };
    let port = |name: &str, link, each: u64| PortStatus {
        name: name.into(),
        link,
        rx_packets: each * second,
        tx_packets: each * second,
        rx_bytes: each * second * 1000,
        tx_bytes: each * second * 100,
        rx_missed: 3 * second,
        ..PortStatus::default()
    };
    let status = Status {
        control: Some(ControlStatus {
            uptime_ms: 3_600_000 + second * 1000,
            servers_down: 1,
            ..ControlStatus::default()
        }),
        link: Some(Link { connected: true, in_sync: true, ..Link::default() }),
        dataplane: Some(DataplaneStatus {
            uptime_ms: 7_200_000 + second * 1000,
            instance: "a".into(),
            workers: vec![worker(0, 0.25), worker(1, 0.5)],
            ports: vec![port("wan", true, 120_700), port("lan", false, 0)],
            drops,
            ..DataplaneStatus::default()
        }),
    };
    let counters = CountersChunk { services: services.collect(), total: Some(counters(12_070)) };
    let ill = (state.services[0].key, state.services[0].servers[1].key);
    let states = [(ill, "down".to_owned())].into();
    Sample { at: start + Duration::from_secs(second), status, counters, state: Arc::new(state), states }
}

/// A screen after two looks.
fn screen() -> Screen {
    let start = Instant::now();
    let mut screen = Screen::new(View::Services, String::new());
    screen.take(Ok(sample(start, 0)));
    screen.take(Ok(sample(start, 1)));
    screen
}

fn press(screen: &mut Screen, keys: &[KeyCode]) -> Flow {
    let event = |code: &KeyCode| Event::Key(KeyEvent::new(*code, KeyModifiers::NONE));
    keys.iter().map(|code| screen.handle(&event(code))).last().unwrap_or(Flow::On)
}

/// What is on a screen of that size.
fn drawn(screen: &mut Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, screen)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let text: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        format!("{}\n", text.trim_end())
    };
    (0..height).map(line).collect()
}

#[track_caller]
fn assert_looks(name: &str, screen: &mut Screen) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/top/snapshots/{name}.txt"));
    let text = drawn(screen, 80, 24);
    if std::env::var_os("FULCRUM_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == known, "{} is\n{known}\nbut the screen is\n{text}", path.display());
    assert!(text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn views_in_eighty_columns() {
    let mut screen = screen();
    assert_looks("services", &mut screen);
    for (key, name) in [('2', "servers"), ('3', "workers"), ('4', "ports"), ('5', "drops"), ('h', "help")] {
        press(&mut screen, &[KeyCode::Char(key)]);
        assert_looks(name, &mut screen);
    }
}

#[test]
fn into_a_service_and_back() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Down, KeyCode::Enter]);
    assert_looks("service", &mut screen);
    press(&mut screen, &[KeyCode::Esc]);
    let table = screen.table();
    let at = screen.position(&table).unwrap();
    assert_eq!((screen.view, table.rows[at][0].text()), (View::Services, "tcp 172.16.100.9:80".to_owned()));
}

#[test]
fn rows_are_sorted_filtered_and_stay_marked() {
    let mut screen = screen();
    let first = |screen: &Screen| screen.table().rows[0][0].text();
    assert!(first(&screen).starts_with("udp "), "by connections, the most first");
    press(&mut screen, &[KeyCode::Char('r')]);
    assert_eq!(first(&screen), "fwm 10");
    press(&mut screen, &[KeyCode::Char('r'), KeyCode::Left, KeyCode::Left, KeyCode::Left, KeyCode::Left]);
    assert_eq!(first(&screen), "fwm 10", "by name, from A");
    press(&mut screen, &[KeyCode::End]);
    let table = screen.table();
    assert_eq!(screen.position(&table), Some(2));
    press(&mut screen, &[KeyCode::Char('r')]);
    let table = screen.table();
    assert_eq!(screen.position(&table), Some(0), "the row is marked, not the place");

    let letters: Vec<KeyCode> = "/TCP".chars().map(KeyCode::Char).collect();
    press(&mut screen, &letters);
    assert_eq!(screen.table().rows.len(), 1);
    assert!(drawn(&mut screen, 80, 24).contains("/TCP_"));
    press(&mut screen, &[KeyCode::Char('q')]);
    assert_eq!(screen.filter, "TCPq", "keys are letters there");
    press(&mut screen, &[KeyCode::Backspace, KeyCode::Enter]);
    assert_eq!(first(&screen), "tcp 172.16.100.9:80");
    press(&mut screen, &[KeyCode::Esc]);
    assert_eq!(screen.table().rows.len(), 3);
    assert_eq!(press(&mut screen, &[KeyCode::Char('q')]), Flow::Quit);
}

#[test]
fn control_comes_and_goes() {
    let mut screen = Screen::new(View::Services, String::new());
    assert!(drawn(&mut screen, 80, 24).contains("nothing"));
    screen.take(Err("fulcrum-control is not running".into()));
    assert!(drawn(&mut screen, 80, 24).contains("no control"));
    let start = Instant::now();
    screen.take(Ok(sample(start, 0)));
    screen.take(Ok(sample(start, 1)));
    screen.take(Err("fulcrum-control is not running".into()));
    let text = drawn(&mut screen, 80, 24);
    assert!(text.contains("no control; what follows is old\nfulcrum-control is not running\n"), "{text}");
    assert!(text.contains("tcp 172.16.100.9:80"), "the last look stays: {text}");
    let mut without = sample(start, 2);
    (without.status.dataplane, without.counters) = (None, CountersChunk::default());
    screen.take(Ok(without));
    assert!(drawn(&mut screen, 80, 24).contains("no data plane"));
    // Another instance counts from the beginning: nothing grew.
    let mut other = sample(start, 3);
    other.status.dataplane.as_mut().unwrap().instance = "b".into();
    screen.take(Ok(other));
    press(&mut screen, &[KeyCode::Char('5')]);
    let table = screen.table();
    assert!(table.rows.iter().all(|row| row[1].text() == "-"), "{table:?}");
}

#[test]
fn any_size_is_drawn() {
    for (width, height) in [(1, 1), (10, 3), (40, 6), (80, 5), (300, 100)] {
        let mut screen = screen();
        for key in ['1', '2', '3', '4', '5', 'h'] {
            press(&mut screen, &[KeyCode::Char(key), KeyCode::End]);
            drawn(&mut screen, width, height);
        }
    }
    assert!(drawn(&mut screen(), 200, 24).contains("OUT B/s"), "a wide one has every column");
}

#[test]
fn a_pause_holds_the_look() {
    let mut screen = screen();
    press(&mut screen, &[KeyCode::Char('p')]);
    let start = Instant::now();
    screen.take(Ok(sample(start, 100)));
    let text = drawn(&mut screen, 80, 24);
    assert!(text.contains("PAUSED") && text.contains("control up 1 h 0 min"), "{text}");
}

#[test]
fn everything_as_json() {
    let start = Instant::now();
    let shown = Shown::default().with(sample(start, 0)).with(sample(start, 2));
    let all = json(&shown);
    assert_eq!(all["in_sync"], true);
    assert_eq!(all["services"][0]["connections_per_second"], 12_000);
    assert_eq!(all["servers"][1]["weight"], 3);
    assert_eq!(all["drops"][0]["reason"], "no-route");
    assert_eq!(all["drops"][0]["per_second"], 20);
    assert_eq!(all["workers"][1]["busy"], 0.5);
    assert_eq!(all["ports"].as_array().unwrap().len(), 2);
}

#[test]
fn intervals_are_bounded() {
    assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
    for wrong in ["", "x", "0", "-1", "NaN", "inf", "3601"] {
        assert!(seconds(wrong).is_err(), "{wrong}");
    }
}
