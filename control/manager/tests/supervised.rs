//! The process under a supervisor: signs of life, and a socket that outlives it.

use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fulcrum_api::control::GetStatusRequest;
use fulcrum_api::control::control_client::ControlClient;
use fulcrum_api::socket;

mod support;
use support::Room;

/// Whatever is said until a word has come.
fn heard(supervisor: &UnixDatagram, word: &str) -> Vec<String> {
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    while !said.iter().any(|line| line == word) {
        let length = supervisor.recv(&mut buffer).unwrap_or_else(|error| panic!("{word}: {error}; {said:?}"));
        said.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
    }
    said
}

#[test]
fn the_supervisor_hears_that_it_is_ready_lives_and_ends() {
    let room = Room::new();
    let supervisor = UnixDatagram::bind(room.path("notify")).unwrap();
    supervisor.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_fulcrum-control"))
        .env("NOTIFY_SOCKET", room.path("notify"))
        .args(["--config", "fulcrum.toml", "--socket", "control.sock", "--state", "state.toml"])
        .current_dir(room.path(""))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = heard(&supervisor, "READY=1");
    assert!(room.path("control.sock").exists(), "ready is said when it answers: {said:?}");
    heard(&supervisor, "WATCHDOG=1");
    heard(&supervisor, "WATCHDOG=1");
    Command::new("kill").arg(child.id().to_string()).status().unwrap();
    heard(&supervisor, "STOPPING=1");
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn whoever_asks_while_it_is_started_again_is_answered_by_the_next() {
    let room = Room::new();
    let listener = UnixListener::bind(room.path("given.sock")).unwrap();
    let start = || {
        // As systemd hands it over: number 3, meant for this process.
        let mut command = Command::new("sh");
        command
            .args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\" 3<&0 </dev/null", "sh"])
            .arg(env!("CARGO_BIN_EXE_fulcrum-control"))
            .args(["--config", "fulcrum.toml", "--state", "state.toml"])
            .current_dir(room.path(""))
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())))
            .stderr(Stdio::null());
        command.spawn().unwrap()
    };
    for _ in 0..2 {
        let asked = tokio::spawn({
            let path = room.path("given.sock");
            async move {
                let channel = socket::connect(&path).await.unwrap();
                ControlClient::new(channel).get_status(GetStatusRequest {}).await
            }
        });
        // Asked before anybody is there to answer.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut child = start();
        let status = asked.await.unwrap().unwrap().into_inner();
        assert_eq!(status.control.unwrap().pid, u64::from(child.id()));
        Command::new("kill").arg(child.id().to_string()).status().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(room.path("given.sock").exists(), "the socket is the supervisor's");
    }
}
