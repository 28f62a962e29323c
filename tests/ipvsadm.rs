//! Debian's ipvsadm, as it is, against control: what it says on a kernel it says here.
//!
//! Recordings of it on a Linux 6.1 kernel are the model's (`control/model/tests/golden/kept.txt`) and, where our own
//! ipvsadm says something else, `ipvsadm/through-the-door.txt`: cases of `$` command, `<` input, `|` output, `!` errors and
//! `=` exit code. A case that has a reason behind its name is as it is here, and not as on a kernel.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use fulcrum_e2e::process::program;

/// A control process without a data plane, and what leads ipvsadm to it.
struct Director {
    folder: PathBuf,
    control: Child,
}

impl Director {
    fn start() -> Director {
        // In memory: each of hundreds of changes is written down.
        let folder = Path::new("/dev/shm").join(format!("fulcrum-ipvsadm-{}", std::process::id()));
        fs::create_dir(&folder).expect("a folder of this process");
        let control = Command::new(program("fulcrum-control"))
            .args(["--config", "none.toml", "--socket", "control.sock", "--state", "state.toml"])
            .args(["--dataplane", "dataplane.sock"])
            .current_dir(&folder)
            .stderr(fs::File::create(folder.join("log")).expect("a file in it"))
            .spawn()
            .expect("control starts");
        let begun = Instant::now();
        while !folder.join("ipvs-proc.sock").exists() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{}", folder.join("log").display());
            sleep(Duration::from_millis(10));
        }
        Director { folder, control }
    }

    /// Runs a line of a shell; its output, errors and exit code.
    fn run(&self, line: &str, input: &str) -> (String, String, i32) {
        let library = program("deps/libfulcrum_preload.so");
        let mut child = Command::new("sh")
            .args(["-c", line])
            .env("LD_PRELOAD", library)
            .env("FULCRUM_IPVS_SOCKET", self.folder.join("ipvs.sock"))
            .env("FULCRUM_IPVS_PROC_SOCKET", self.folder.join("ipvs-proc.sock"))
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        // Who does not read it may be gone.
        let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        let done = child.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&done.stdout), text(&done.stderr), done.status.code().unwrap_or(-1))
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        let _ = self.control.kill();
        let _ = self.control.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Plays cases that have no names of hosts in them; how many steps there were.
fn play(director: &Director, transcript: &str) -> usize {
    let mut played = 0;
    for case in transcript.split("=== ").filter(|case| !case.is_empty() && !case.contains("example")) {
        let (name, steps) = case.split_once('\n').expect("a name");
        // From Fulcrum's own words.
        if name.starts_with("grammar") {
            continue;
        }
        assert_eq!(director.run("ipvsadm -C && ipvsadm --set 900 120 300", "").2, 0);
        for step in steps.split("$ ").skip(1) {
            let (command, rest) = step.split_once('\n').expect("a line");
            let (mut input, mut out, mut err, mut code) = (String::new(), String::new(), String::new(), 0);
            for line in rest.lines() {
                let (mark, text) = line.split_at_checked(2).unwrap_or((line, ""));
                match mark.trim_end() {
                    "<" => input += &format!("{text}\n"),
                    "|" => out += &format!("{text}\n"),
                    "!" => err += &format!("{text}\n"),
                    "=" => code = text.parse().expect("a number"),
                    _ => {}
                }
            }
            let (got_out, got_err, got_code) = director.run(command, &input);
            assert_eq!((got_out, got_code), (out, code), "{name}: {command}\n{got_err}");
            assert_eq!(got_err, err, "{name}: {command}");
            played += 1;
        }
    }
    played
}

#[test]
fn debians_ipvsadm_says_what_it_says_on_a_kernel() {
    let director = Director::start();
    let kept = play(&director, include_str!("../control/model/tests/golden/kept.txt"));
    assert!(kept > 400, "steps are lost: {kept}");
    let rest = play(&director, include_str!("ipvsadm/through-the-door.txt"));
    assert!(rest > 40, "steps are lost: {rest}");

    let hundred = "for i in $(seq 1 120); do echo \"-A -t 10.9.0.100:$((1000+i)) -s rr\"; \
                   echo \"-a -t 10.9.0.100:$((1000+i)) -r 10.0.0.11:80 -m\"; done | ipvsadm -R";
    assert_eq!(director.run(hundred, ""), (String::new(), String::new(), 0));
    let (listed, _, _) = director.run("ipvsadm -Ln", "");
    assert_eq!(listed.lines().count(), 3 + 240);
    // The files are there for everybody, as in a kernel; the rest is not.
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all --inh-caps=-all";
    let (file, _, _) = director.run(&format!("{nobody} cat /proc/net/ip_vs"), "");
    assert_eq!(file.lines().count(), 3 + 240);
    assert!(file.contains(
        "\nTCP  0A090064:03E9 rr  \n  -> 0A00000B:0050      Masq    1      0          0         \n"
    ));
    for command in ["-Ln", "-C"] {
        let (out, err, code) = director.run(&format!("{nobody} ipvsadm {command}"), "");
        assert_eq!((out.as_str(), code), ("", 2), "{err}");
        // It asks for the module first, which a kernel may have or not.
        assert!(err.contains("Can't initialize ipvs: Permission denied (you must be root)\n"), "{err}");
    }
    assert_eq!(director.run("ipvsadm -Ln", "").0, listed);
}
