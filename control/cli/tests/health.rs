//! Health and admin states of servers on the command line, beside a fulcrum-control that checks a real listener.

mod support;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::Room;

/// A service of two servers, the first of which is asked at a port of this machine.
fn room() -> (Room, TcpListener) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let room = Room::running();
    let file = room.fulcrum("save")
        + "\n[[check]]\nname = \"alive\"\ntype = \"tcp\"\ninterval = \"100ms\"\nrise = 1\nfall = 1\n";
    std::fs::write(room.path("with-check.toml"), file).unwrap();
    room.fulcrum("apply with-check.toml");
    room.fulcrum("service add tcp 10.0.0.1:80 --scheduler rr --checks alive --quorum 2");
    room.fulcrum(&format!(
        "server add tcp 10.0.0.1:80 10.1.0.1 --forward nat --check-address 127.0.0.1 --check-port {port}"
    ));
    room.fulcrum("server add tcp 10.0.0.1:80 10.1.0.2:8080 --forward nat --checks none");
    (room, listener)
}

fn server(room: &Room, at: usize) -> Value {
    room.json("server list tcp 10.0.0.1:80")[at].clone()
}

#[track_caller]
fn wait(room: &Room, state: &str) -> Value {
    let start = Instant::now();
    loop {
        let row = server(room, 0);
        if row["health"]["state"] == state {
            return row;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "never {state}: {row}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn listings_tell_how_servers_are_and_why() {
    let (room, listener) = room();
    let up = wait(&room, "up");
    assert_eq!(up["health"]["checks"][0]["name"], "alive");
    assert_eq!(up["health"]["effective_weight"], 1);
    assert_eq!(server(&room, 1)["health"]["state"], "unchecked");
    let quorum = room.json("service show tcp 10.0.0.1:80")["quorum"].clone();
    assert_eq!(quorum, json!({ "needed": 2, "healthy_weight": 2, "lost_since": null, "sorry": false }));

    // Nothing changes, and yet it is told when it was asked last and is asked next.
    let last = up["health"]["checks"][0]["last"].clone();
    let later = || server(&room, 0)["health"]["checks"][0]["last"].clone();
    let start = Instant::now();
    while later() == last {
        assert!(start.elapsed() < Duration::from_secs(5), "it was last asked at {last}");
    }

    drop(listener);
    let down = wait(&room, "down");
    assert_eq!(down["health"]["why"], "check alive: connection refused");
    assert_eq!([&down["health"]["effective_weight"], &down["weight"]], [&Value::Null, &json!(1)]);
    assert!(
        down["health"]["since"].is_string() && down["health"]["checks"][0]["error"] == "connection refused"
    );
    let text = room.fulcrum("server list tcp 10.0.0.1:80");
    assert!(text.contains("  -/1 ") && text.contains("check alive: connection refused"), "{text}");
    assert!(
        room.fulcrum("service list")
            .lines()
            .any(|line| line.contains("10.0.0.1:80") && line.contains(" 1/2 "))
    );
    assert!(room.fulcrum("service show tcp 10.0.0.1:80").contains("weigh 1 of 2"));
    let status = room.fulcrum("status");
    assert!(status.contains("servers: 1 down, 1 service without quorum, 0 sorry servers on"), "{status}");

    let events = room.json("events");
    let kinds: Vec<&str> = events.as_array().unwrap().iter().filter_map(|e| e["event"].as_str()).collect();
    assert_eq!(kinds, ["quorum-lost", "quorum-gained", "server-down", "quorum-lost"], "{events}");
    assert_eq!(events[2]["service"], "tcp 10.0.0.1:80");
    let lines = room.fulcrum("events --after 2");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(
        lines.contains(" server-down tcp 10.0.0.1:80 10.1.0.1:80: check alive: connection refused\n"),
        "{lines}"
    );

    // ipvsadm lists what is left and saves what is configured.
    let listed = room.fulcrum("ipvsadm -Ln");
    assert!(!listed.contains("10.1.0.1:80") && listed.contains("10.1.0.2:8080"), "{listed}");
    assert!(room.fulcrum("ipvsadm -Sn").contains("-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1"));
    assert!(room.fulcrum("save").contains("check-address = \"127.0.0.1\""));
}

#[test]
fn servers_are_drained_disabled_and_enabled_in_one_service_or_all() {
    let mut room = Room::running();
    for vip in ["10.0.0.1:80", "10.0.0.2:80"] {
        room.fulcrum(&format!("service add tcp {vip} --scheduler rr"));
        for server in ["10.1.0.1:80", "10.1.0.1:81"] {
            room.fulcrum(&format!("server add tcp {vip} {server} --forward nat --weight 4"));
        }
    }
    let states = |room: &Room| -> Vec<String> {
        let rows = ["10.0.0.1:80", "10.0.0.2:80"].map(|vip| room.json(&format!("server list tcp {vip}")));
        let states = rows.iter().flat_map(|rows| rows.as_array().unwrap());
        states.map(|row| row["health"]["state"].as_str().unwrap().to_owned()).collect()
    };
    room.fulcrum("server drain tcp 10.0.0.1:80 10.1.0.1 --deadline 1h30m");
    assert_eq!(states(&room), ["draining", "unchecked", "unchecked", "unchecked"]);
    let row = server(&room, 0);
    assert_eq!(
        [&row["admin"], &row["weight"], &row["health"]["effective_weight"]],
        [&json!("drain"), &json!(4), &json!(0)]
    );
    assert!(row["drain_until"].as_str().unwrap().ends_with('Z'));
    assert!(room.fulcrum("server list").contains("  0/4 "));
    room.fulcrum("server disable 10.1.0.1:81");
    assert_eq!(states(&room), ["draining", "disabled", "unchecked", "disabled"]);
    room.fulcrum("server edit tcp 10.0.0.1:80 10.1.0.1 --weight 7");
    room.restart();
    assert_eq!(states(&room), ["draining", "disabled", "unchecked", "disabled"]);
    assert_eq!(server(&room, 0)["weight"], 7);
    room.fulcrum("server enable 10.1.0.1");
    assert_eq!(states(&room), ["unchecked"; 4]);
    assert_eq!(server(&room, 0)["health"]["effective_weight"], 7);

    let refused = [
        (2, "server drain tcp 10.0.0.1:80", "name a server, or a service such as"),
        (2, "server drain web", "`web` names no server"),
        (2, "server drain udb 10.0.0.1:80 10.1.0.1", "`udb` is none of tcp, udp"),
        (2, "server drain 10.1.0.1 --deadline soon", "--deadline"),
        (1, "server drain 10.1.0.1 --deadline 20000years", "later than the year 9999"),
        (1, "server drain 10.1.0.9", "there is no server 10.1.0.9 in any service"),
        (1, "server drain tcp 10.0.0.1:80 10.1.0.1:82", "service tcp 10.0.0.1:80 has no server 10.1.0.1:82"),
        (1, "service edit tcp 10.0.0.1:80 --hysteresis 1", "hysteresis 1 must be less than the quorum, 1"),
        (1, "service edit tcp 10.0.0.1:80 --checks web", "there is no check `web`"),
        (2, "service edit tcp 10.0.0.1:80 --sorry-server 10.1.0.9", "add --sorry-forward"),
    ];
    for (code, words, why) in refused {
        let said = room.refused(code, words);
        assert!(said.contains(why), "{words}: {said}");
    }
    room.fulcrum("service edit tcp 10.0.0.1:80 --sorry-server 10.1.0.9 --sorry-forward nat --slow-start 30");
    let shown = room.fulcrum("service show tcp 10.0.0.1:80");
    assert!(shown.contains("10.1.0.9:80, stands by") && shown.contains("standby"), "{shown}");
    room.fulcrum("server disable tcp 10.0.0.1:80 10.1.0.1:80");
    room.fulcrum("server disable tcp 10.0.0.1:80 10.1.0.1:81");
    assert!(room.fulcrum("service show tcp 10.0.0.1:80").contains("10.1.0.9:80, answers"));
    room.fulcrum(
        "service edit tcp 10.0.0.1:80 --sorry-server 10.1.0.9 --sorry-forward tun --sorry-tunnel gue --sorry-tunnel-port 6080",
    );
    let saved = room.fulcrum("save");
    assert!(saved.contains("tunnel-port = 6080"), "{saved}");
    room.fulcrum("service edit tcp 10.0.0.1:80 --sorry-server none --slow-start 0");
    assert!(!room.fulcrum("service show tcp 10.0.0.1:80").contains("10.1.0.9"));
}

#[test]
fn checks_of_a_services_own_can_be_taken_away() {
    let mut room = Room::new();
    let own =
        "[[service]]\naddress = \"10.0.0.1:80\"\nprotocol = \"tcp\"\n[[service.check]]\ntype = \"tcp\"\n";
    std::fs::write(room.path("fulcrum.toml"), own).unwrap();
    room.start();
    assert_eq!(room.json("service list")[0]["own_checks"], json!(["tcp"]));
    room.fulcrum("service edit tcp 10.0.0.1:80 --no-own-checks");
    assert_eq!(room.json("service list")[0]["own_checks"], json!([]));
}
