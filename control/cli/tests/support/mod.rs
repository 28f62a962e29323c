//! A fulcrum-control that has no data plane, and the program `fulcrum` beside it.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use fulcrum_log::LogArguments;
use fulcrum_manager::process::{Arguments, run};
use serde_json::Value;

/// What it begins with.
pub(crate) const CONFIG: &str = r#"
[[port]]
name = "lan"
device = "veth-lan"
[[interface]]
name = "lan"
port = "lan"
addresses = ["192.168.20.1/24"]
[[local-pool]]
name = "inside"
interface = "lan"
addresses = ["192.168.20.200-192.168.20.203"]
[[service]]
address = "172.16.100.9:80"
protocol = "tcp"
scheduler = "wrr"
local-pool = "inside"
[[service.server]]
address = "192.168.20.7:8080"
forward = "fullnat"
weight = 3
"#;

/// A fulcrum-control and the files around it.
#[derive(Debug)]
pub(crate) struct Room {
    directory: tempfile::TempDir,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Room {
    pub(crate) fn new() -> Room {
        let room = Room { directory: tempfile::tempdir().unwrap(), runtime: None };
        std::fs::write(room.path("fulcrum.toml"), CONFIG).unwrap();
        room
    }

    pub(crate) fn running() -> Room {
        let mut room = Room::new();
        room.start();
        room
    }

    pub(crate) fn start(&mut self) {
        let arguments = Arguments {
            config: self.path("fulcrum.toml"),
            socket: Some(self.path("control.sock")),
            ipvs: None,
            dataplane: Some(self.path("dataplane.sock")),
            state: Some(self.path("state.toml")),
            log: LogArguments::default(),
            generate: Default::default(),
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(run(arguments));
        self.runtime = Some(runtime);
        while !self.path("control.sock").exists() {
            thread::yield_now();
        }
    }

    /// Ends fulcrum-control without a word and starts it again.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Ends fulcrum-control without a word.
    pub(crate) fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_timeout(Duration::from_secs(5));
        let _ = std::fs::remove_file(self.path("control.sock"));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `fulcrum` with these words.
    pub(crate) fn try_fulcrum(&self, words: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_fulcrum"))
            .env("FULCRUM_SOCKET", self.path("control.sock"))
            .current_dir(self.directory.path())
            .args(words.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What it prints when it succeeds.
    pub(crate) fn fulcrum(&self, words: &str) -> String {
        let output = self.try_fulcrum(words);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "fulcrum {words}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.fulcrum(&format!("{words} --json"))).unwrap()
    }

    /// What it says when it exits with `code`, whatever it printed before.
    pub(crate) fn refused_with_output(&self, code: i32, words: &str) -> String {
        let output = self.try_fulcrum(words);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "fulcrum {words}: {errors}");
        errors
    }

    /// What it says when it exits with `code`.
    pub(crate) fn refused(&self, code: i32, words: &str) -> String {
        let output = self.try_fulcrum(words);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "fulcrum {words}: {errors}");
        assert!(output.stdout.is_empty(), "fulcrum {words} printed something");
        errors
    }
}
