//! What the process writes to standard error, as journald and as a program read it.

mod support;

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

use support::Room;

/// The first line that fulcrum-control logs with these options, with standard error leading to the journal or not.
fn first_line(room: &Room, options: &[&str], journal: bool) -> String {
    let (reader, writer) = std::io::pipe().unwrap();
    let file =
        std::fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer))).unwrap();
    let stream = if journal { format!("{}:{}", file.dev(), file.ino()) } else { "1:2".to_owned() };
    let mut child = Command::new(env!("CARGO_BIN_EXE_fulcrum-control"))
        .arg("--config")
        .arg(room.path("fulcrum.toml"))
        .arg("--state")
        .arg(room.path("state.toml"))
        .arg("--socket")
        .arg(room.path("control.sock"))
        .args(options)
        .env("JOURNAL_STREAM", stream)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stderr(writer)
        .spawn()
        .unwrap();
    let line = BufReader::new(reader).lines().next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    line
}

#[test]
fn journald_gets_priorities_and_others_the_time() {
    let room = Room::new();
    let journal = first_line(&room, &[], true);
    assert!(journal.starts_with("<4> WARN fulcrum_manager::reload: no configuration file;"), "{journal}");
    let plain = first_line(&room, &[], false);
    assert!(plain.starts_with("20") && plain.contains("  WARN fulcrum_manager::reload: no conf"), "{plain}");
}

#[test]
fn json_and_the_level_are_chosen_by_options() {
    let room = Room::new();
    let json = first_line(&room, &["--log-format", "json"], true);
    assert!(json.starts_with("<4>{\"level\":\"WARN\",") && json.ends_with('}'), "{json}");
    std::fs::write(room.path("fulcrum.toml"), "[control]\nwrong = 1\n").unwrap();
    let error = first_line(&room, &["--log-level", "error"], true);
    assert!(!error.contains("WARN"), "{error}");
}
