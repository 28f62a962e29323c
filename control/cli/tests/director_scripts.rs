//! Director scripts as old guides have them, unchanged, with the program in the place of ipvsadm and its scripts.
//!
//! `director_scripts/recorded.txt` is what they printed with ipvsadm 1.31 on a Linux 6.1 kernel. What they do to the
//! host beside (`ifconfig`, `route`, `iptables -F` and so on) is answered by a program that does nothing.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use support::Room;

const HOST: [&str; 7] = ["ifconfig", "route", "iptables", "ip", "sysctl", "modprobe", "arping"];

/// A room whose `bin` holds what the scripts call.
fn room() -> Room {
    let room = Room::running();
    let bin = room.path("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["fulcrum", "ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
        symlink(env!("CARGO_BIN_EXE_fulcrum"), bin.join(name)).unwrap();
    }
    for name in HOST {
        fs::write(bin.join(name), "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    room
}

/// Output, errors and exit status of a line of the transcript, as its lines.
fn answer(room: &Room, line: &str) -> Vec<String> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/director_scripts");
    let mut path = room.path("bin").into_os_string();
    path.push(":/usr/sbin:/usr/bin:/sbin:/bin");
    let line = if line.starts_with("ipvsadm") { line.to_owned() } else { format!("bash ./{line}") };
    let output = Command::new("bash")
        .args(["-c", &line])
        .current_dir(scripts)
        .env_clear()
        .env("PATH", path)
        .env("FULCRUM_SOCKET", room.path("control.sock"))
        .env("LOCK", room.path("lock"))
        .env("RULES", room.path("rules"))
        .env("TMPDIR", room.path(""))
        // Nobody waits for the names of addresses that have none.
        .env("RES_OPTIONS", "timeout:1 attempts:1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut lines = Vec::new();
    for (mark, text) in [('|', &output.stdout), ('!', &output.stderr)] {
        let text = String::from_utf8(text.clone()).unwrap();
        // Here is no data plane, which is said on every occasion.
        let told = |line: &&str| !(mark == '!' && line.contains("the data plane is not connected"));
        lines.extend(text.lines().filter(told).map(|line| format!("{mark} {line}")));
    }
    if !output.status.success() {
        lines.push(format!("= {}", output.status.code().unwrap()));
    }
    lines
}

fn play(name: &str) -> Room {
    let room = room();
    let recorded = include_str!("director_scripts/recorded.txt");
    let case = recorded.split("\n\n").find_map(|case| case.strip_prefix(&format!("=== {name}\n"))).unwrap();
    answer(&room, "ipvsadm -C");
    let mut steps = 0;
    for step in format!("\n{case}").split("\n$ ").skip(1) {
        let mut wanted = step.lines();
        let line = wanted.next().unwrap();
        assert_eq!(answer(&room, line), wanted.collect::<Vec<_>>(), "{line}");
        steps += 1;
    }
    assert!(steps >= 9, "{steps}");
    room
}

#[test]
fn direct_routing() {
    play("dr");
}

#[test]
fn nat_with_a_saved_table() {
    play("nat");
}

#[test]
fn tunnels_by_lists_and_loops() {
    play("tun");
}

#[test]
fn marks_of_one_farm() {
    let room = play("fwmark");
    assert_eq!(room.json("mark list").as_array().unwrap().len(), 0);
    assert_eq!(answer(&room, "fwmark.sh start"), Vec::<String>::new());
    let rules = room.json("mark list");
    let marks: Vec<_> = rules.as_array().unwrap().iter().map(|rule| rule["mark"].clone()).collect();
    assert_eq!(marks, [10, 10, 11]);
    // Started again, it has its rules once.
    assert_eq!(answer(&room, "fwmark.sh start"), Vec::<String>::new());
    assert_eq!(room.json("mark list"), rules);
}
