//! `fulcrum upgrade` where there is no data plane; tests/labs/upgrade.rs has one, and traffic.

mod support;

use std::process::{Command, Stdio};

use serde_json::Value;
use support::Room;

#[test]
fn without_a_data_plane_there_is_nothing_to_be_upgraded() {
    let room = Room::running();
    let said = room.refused(1, "upgrade --drain 5");
    assert!(said.contains("the data plane is not connected") && said.contains("nothing was done"), "{said}");
    for (words, why) in [
        ("upgrade --command true --no-restart", "cannot be used with"),
        ("upgrade --drain soon", "--drain"),
        ("upgrade everything", "[possible values: dataplane, control]"),
    ] {
        let said = room.refused(2, words);
        assert!(said.contains(why), "{words}: {said}");
    }
}

#[test]
fn control_is_started_again_by_whoever_does_that() {
    let mut room = Room::running();
    let printed = room.fulcrum("upgrade control --no-restart --dry-run");
    assert!(printed.contains("would wait until somebody has started fulcrum-control again"), "{printed}");
    assert!(printed.contains("nothing was done"), "{printed}");

    let mut child = Command::new(env!("CARGO_BIN_EXE_fulcrum"))
        .args(["upgrade", "control", "--no-restart", "--json"])
        .env("FULCRUM_SOCKET", room.path("control.sock"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    while next()["step"] != "waiting" {}
    room.restart();
    loop {
        let step = next();
        if step["step"] == "done" {
            assert!(step["text"].as_str().unwrap().contains("the data plane was not touched"), "{step}");
            break;
        }
    }
    assert!(child.wait().unwrap().success());

    let said = room.refused_with_output(1, "upgrade control --command false");
    assert!(said.contains("`false` failed"), "{said}");
    let said = room.refused_with_output(1, "upgrade control --no-restart --timeout 0");
    assert!(said.contains("has not ended yet") && said.contains("goes on as it is"), "{said}");
}
