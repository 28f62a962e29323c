//! `fulcrum top` in a terminal, and where there is none.

mod support;

use std::io::{Read as _, Write as _};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::Room;

/// A terminal of 80 × 24 in which a shell runs `fulcrum top`, and what it has shown so far.
struct Shell {
    child: std::process::Child,
    keys: ChildStdin,
    seen: Arc<Mutex<String>>,
}

impl Shell {
    /// Before and after it the shell prints the terminal's settings.
    fn new(room: &Room, arguments: &str) -> Shell {
        let fulcrum = env!("CARGO_BIN_EXE_fulcrum");
        let lines =
            format!("stty cols 80 rows 24; stty -g; {fulcrum} top {arguments}; echo exit=$?; stty -g");
        // util-linux' script makes the terminal.
        let mut child = Command::new("script")
            .args(["-qec", &lines, "/dev/null"])
            .env("FULCRUM_SOCKET", room.path("control.sock"))
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (keys, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let seen = Arc::new(Mutex::new(String::new()));
        let written = seen.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                written.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Shell { child, keys, seen }
    }

    /// Waits until it shows a text; what it showed before that is told and forgotten.
    fn until(&self, text: &str) -> String {
        let start = Instant::now();
        loop {
            let mut seen = self.seen.lock().unwrap();
            if let Some(at) = seen.find(text) {
                let shown = seen.drain(..at + text.len()).collect::<String>();
                return shown[..at].to_owned();
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no `{text}` in {:?}", *seen);
            drop(seen);
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // Its terminal goes with it, and what runs there with that.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_terminal_is_given_back_as_it_was_and_a_restart_of_control_is_survived() {
    let mut room = Room::running();
    let mut shell = Shell::new(&room, "--interval 0.1");
    let before = shell.until("\r\n");
    shell.until("\x1b[?1049h");
    // Only what changes is drawn: each text is one that was not there before.
    shell.until("data plane");
    room.stop();
    shell.until("what follows is old");
    room.start();
    shell.until("up ");
    shell.press("h");
    shell.until("Keys (any of them closes this)");
    shell.press("xq");
    shell.until("\x1b[?1049l");
    shell.until("exit=0\r\n");
    assert_eq!(shell.until("\r\n"), before, "the terminal's settings");
    assert!(shell.child.wait().unwrap().success());
}

#[test]
fn without_a_terminal_it_is_a_table_or_json() {
    let room = Room::running();
    let text = room.fulcrum("top --interval 0.1");
    assert!(text.starts_with("SERVICE ") && text.contains("tcp 172.16.100.9:80  1    0       0"), "{text}");
    let json = room.json("top --interval 0.1");
    assert_eq!(json["in_sync"], false);
    assert_eq!(json["servers"][0]["server"], "192.168.20.7:8080");
    assert!(room.fulcrum("top --once --view workers --interval 0.1").starts_with("WORKER  LCORE  BUSY"));
    room.refused(2, "top --interval 0");
}
