//! ipvsadm's command line through the control socket of a running fulcrum-control: the recorded words of the
//! real one, what happens without a control process, and a reader that goes away.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};

use fulcrum_cli::ipvsadm::{Face, Streams, run};
use fulcrum_cli::{Door, Output};
use fulcrum_log::LogArguments;
use fulcrum_manager::process::Arguments;

/// Runs `test` beside a fulcrum-control of its own that has no data plane.
async fn with_control<F: Future<Output = ()>>(test: impl FnOnce(PathBuf) -> F) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("fulcrum.toml");
    std::fs::write(&config, "").unwrap();
    let socket = dir.path().join("control.sock");
    let arguments = Arguments {
        config,
        socket: Some(socket.clone()),
        ipvs: None,
        dataplane: Some(dir.path().join("dataplane.sock")),
        state: Some(dir.path().join("state.toml")),
        log: LogArguments::default(),
        generate: Default::default(),
    };
    let up = async {
        while !socket.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        test(socket.clone()).await;
    };
    tokio::select! {
        ended = fulcrum_manager::process::run(arguments) => panic!("fulcrum-control ended: {ended:?}"),
        () = up => {}
    }
}

/// Output, errors and exit code.
async fn ipvsadm(socket: &Path, line: &str, input: &str) -> (String, String, u8) {
    called(Face::Ipvsadm, socket, line, input).await
}

async fn called(face: Face, socket: &Path, line: &str, input: &str) -> (String, String, u8) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let streams =
        Streams { input: &mut io::Cursor::new(input), output: Output::new(&mut out), errors: &mut err };
    let code = run(face, &shlex::split(line).unwrap(), &Door::at(socket), streams).await;
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), code)
}

#[tokio::test]
async fn recorded_words_come_through_the_socket() {
    let transcript = include_str!("../../model/tests/golden/kept.txt");
    with_control(|socket| async move {
        let mut played = 0;
        // A case that needs names is left to the model's own test: this machine may not know them.
        for case in
            transcript.split("\n\n").filter(|case| !case.contains("example") && !case.contains(":http"))
        {
            assert_eq!(ipvsadm(&socket, "-C", "").await.2, 0);
            assert_eq!(ipvsadm(&socket, "--set 900 120 300", "").await.2, 0);
            for step in case.split("\n$ ipvsadm").skip(1) {
                let mut lines = step.lines();
                let command = lines.next().unwrap_or_default();
                // Sessions and counters are the data plane's.
                if step.contains("IPVS connection entries") || command.starts_with(" -Z") {
                    continue;
                }
                let (mut input, mut out, mut err, mut code) =
                    (String::new(), String::new(), String::new(), 0);
                for line in lines {
                    let (mark, text) = line.split_at_checked(2).unwrap_or((line, ""));
                    match mark.trim_end() {
                        "<" => input += &format!("{text}\n"),
                        "|" => out += &format!("{text}\n"),
                        "!" => err += &format!("{text}\n"),
                        _ => code = text.parse().unwrap(),
                    }
                }
                let (got_out, got_err, got_code) = ipvsadm(&socket, command, &input).await;
                assert_eq!((got_out, got_code), (out, code), "ipvsadm{command}\n{got_err}");
                if code != 0 {
                    assert_eq!(got_err.trim_end(), err.trim_end(), "ipvsadm{command}");
                }
                played += 1;
            }
        }
        assert!(played > 250, "{played}");
    })
    .await;
}

#[tokio::test]
async fn restore_is_one_transaction() {
    with_control(|socket| async move {
        let good = "-A -t 10.9.0.100:80 -s rr\n# servers\n-a -t 10.9.0.100:80 -r 10.0.0.11:80 -m -w 3\n";
        assert_eq!(ipvsadm(&socket, "-R", good).await.2, 0);
        let (saved, _, _) = ipvsadm(&socket, "-Sn", "").await;
        assert_eq!(saved, good.replace("# servers\n", ""));
        let bad = "-C\n-A -t 10.9.0.1:80\n\n-A -t 10.9.0.1:80\n";
        let (_, error, code) = ipvsadm(&socket, "-R", bad).await;
        assert_eq!((error.as_str(), code), ("line 4: Service already exists (nothing was changed)\n", 255));
        assert_eq!(ipvsadm(&socket, "-Sn", "").await.0, saved);
    })
    .await;
}

#[tokio::test]
async fn the_scripts_are_answered_for_with_their_habits() {
    with_control(|socket| async move {
        let rules = "# web\n-A -t 10.9.0.100:80 -s rr\n";
        let (out, _, code) = called(Face::Restore, &socket, "", rules).await;
        assert_eq!((out.as_str(), code), ("", 0));
        // What was there is replaced, whatever arguments there are.
        let rules = "-A -u 10.9.0.100:53 -s wlc\n-a -u 10.9.0.100:53 -r 10.0.0.11:53 -g -w 1\n";
        assert_eq!(called(Face::Restore, &socket, "-n all", rules).await.2, 0);
        let (out, _, code) = called(Face::Save, &socket, "-n", "").await;
        assert_eq!((out.as_str(), code), (rules, 0));
        assert_eq!(called(Face::Save, &socket, "all -n", "").await.0, rules);
        // A mistake leaves what was there.
        let (_, error, code) = called(Face::Restore, &socket, "", "-A -t 10.9.0.100:80\n-A -t bad\n").await;
        assert_eq!(code, 2);
        assert_eq!(error, "line 2: illegal virtual server address[:port] specified (nothing was changed)\n");
        let twice = "-A -t 10.9.0.100:80\n-A -t 10.9.0.100:80\n";
        let (_, error, code) = called(Face::Restore, &socket, "", twice).await;
        assert_eq!((error.as_str(), code), ("line 2: Service already exists (nothing was changed)\n", 255));
        assert_eq!(called(Face::Save, &socket, "-n", "").await.0, rules);
        let (out, error, code) = called(Face::Save, &socket, "--help", "").await;
        assert_eq!((out.as_str(), code), ("", 1));
        assert!(error.starts_with("ipvsadm-save: "), "{error}");
        // Nothing is what a restore of nothing leaves.
        assert_eq!(called(Face::Restore, &socket, "", "").await.2, 0);
        assert_eq!(called(Face::Save, &socket, "", "").await.0, "");
    })
    .await;
}

#[tokio::test]
async fn local_addresses_are_added_listed_and_removed() {
    with_control(|socket| async move {
        for line in [
            "-A -t 10.9.0.100:80 -s rr",
            "-P -t 10.9.0.100:80 -z 10.0.0.200",
            "-P -t 10.9.0.100:80 -z 10.0.0.201",
            "-a -t 10.9.0.100:80 -r 10.0.0.11:8080 -b",
        ] {
            let (_, error, code) = ipvsadm(&socket, line, "").await;
            assert_eq!(code, 0, "{line}: {error}");
        }
        let (listed, _, _) = ipvsadm(&socket, "-G -n", "").await;
        assert_eq!(
            listed,
            "VIP:VPORT            TOTAL    SNAT_IP              CONFLICTS  CONNS     \n\
             10.9.0.100:80        2        10.0.0.200           0          0         \n\
             \x20                             10.0.0.201           0          0         \n"
        );
        assert!(ipvsadm(&socket, "-Ln", "").await.0.contains("10.0.0.11:8080               FullNat 1 "));
        let answers = [
            ("-P -t 10.9.0.100:80 -z 10.0.0.200", "Local address already exists\n", 255),
            ("-Q -t 10.9.0.100:80 -z 10.0.0.202", "No such local address\n", 255),
            ("-Q -t 10.9.0.101:80 -z 10.0.0.200", "No such service\n", 255),
            ("-G -n -t 10.9.0.101:80", "No such service\n", 1),
            ("-P -t 10.9.0.100:80", "You need to supply the 'laddr' option for the 'add-laddr' command\n", 2),
            ("-P -t 10.9.0.100:80 -z 10.0.0.9:80", "illegal local address specified\n", 2),
        ];
        for (line, error, code) in answers {
            let (_, got, got_code) = ipvsadm(&socket, line, "").await;
            assert_eq!((got.as_str(), got_code), (error, code), "{line}");
        }
        assert_eq!(ipvsadm(&socket, "-Q -t 10.9.0.100:80 -z 10.0.0.200", "").await.2, 0);
        let (_, error, code) = ipvsadm(&socket, "-Q -t 10.9.0.100:80 -z 10.0.0.201", "").await;
        assert_eq!(code, 255);
        assert!(error.contains("has no local address"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn without_a_control_process_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (out, error, code) = ipvsadm(&dir.path().join("none.sock"), "-Ln", "").await;
    assert_eq!((out.as_str(), code), ("", 2));
    assert!(error.starts_with("Can't initialize ipvs: fulcrum-control is not running"), "{error}");
    // What needs no director works without one.
    assert_eq!(ipvsadm(&dir.path().join("none.sock"), "-h", "").await.2, 0);
    assert_eq!(ipvsadm(&dir.path().join("none.sock"), "-A", "").await.2, 2);
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_error() {
    struct Gone;
    impl io::Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut err = Vec::new();
    let streams = Streams { input: &mut io::empty(), output: Output::new(Gone), errors: &mut err };
    assert_eq!(run(Face::Ipvsadm, &["-h".to_owned()], &Door::at(Path::new("none")), streams).await, 0);
    assert_eq!(err, b"");
}
