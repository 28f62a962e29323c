//! TCP, UDP, ICMP and programs: good answers, bad ones, none, and what never was asked.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::*;
use fulcrum_health::{Direct, Outcome, Target, Tools, probe};
use fulcrum_model::{Check, CheckKind, CheckTls, Via};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_connection_is_made_or_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(ask(CheckKind::Tcp, port).await, Outcome::Good);
    drop(listener);
    assert_eq!(ask(CheckKind::Tcp, port).await, bad("connection refused"));
    assert_eq!(ask(http("/"), port).await, bad("connection refused"));
}

#[tokio::test]
async fn a_connection_that_nobody_answers_is_told_from_an_answer_that_does_not_come() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(2).unwrap();
    let address = listener.local_addr().unwrap();
    let mut secure = http("/");
    assert_eq!(ask_as(&hasty(http("/")), address.port()).await, bad("no answer within 300 ms"));
    let CheckKind::Http { tls, .. } = &mut secure else { unreachable!() };
    *tls = Some(CheckTls::default());
    assert_eq!(ask_as(&hasty(secure), address.port()).await, bad("no TLS handshake within 300 ms"));
    // Nobody accepts: when the queue is full, the kernel answers no more SYNs.
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(
            tokio::time::timeout(Duration::from_millis(100), tokio::net::TcpStream::connect(address)).await,
        );
    }
    assert_eq!(ask_as(&hasty(CheckKind::Tcp), address.port()).await, bad("no connection within 300 ms"));
}

#[tokio::test]
async fn a_probe_has_the_source_address_that_it_was_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let from = |source| Check { source: Some(ip(source)), ..check(CheckKind::Tcp) };
    let here = from("127.9.8.7");
    let (asked, came) = tokio::join!(ask_as(&here, port), listener.accept());
    assert_eq!((asked, came.unwrap().1.ip()), (Outcome::Good, ip("127.9.8.7")));
    let none = "source address 192.0.2.77 is none of this host's";
    assert_eq!(ask_as(&from("192.0.2.77"), port).await, unasked(none));
    let families = "source address ::1 and server 127.0.0.1 are of two families";
    assert_eq!(ask_as(&from("::1"), port).await, unasked(families));
}

#[tokio::test]
async fn servers_may_be_of_either_family() {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tools = Tools::new(Arc::new(Direct));
    let target = |check: &Check| Target::new(check, ip("::1"), port, None);
    let tcp = Check { source: Some(ip("::1")), ..check(CheckKind::Tcp) };
    assert_eq!(probe(&tools, &target(&tcp)).await, Outcome::Good);
    drop(listener.accept().await);
    // The Host header of an address with colons has brackets.
    let web = target(&check(http("/")));
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1024];
        let length = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 204 Fine\r\n\r\n").await.unwrap();
        String::from_utf8(request[..length].to_vec()).unwrap()
    };
    let (asked, request) = tokio::join!(probe(&tools, &web), serving);
    assert_eq!(asked, Outcome::Good);
    assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: [::1]:{port}\r\n")), "{request}");
}

#[tokio::test]
async fn without_a_way_nothing_is_known() {
    let tools = Tools::new(Arc::new(Direct));
    let ask = |check: Check, address: &str, port| {
        let target = Target::new(&check, ip(address), port, None);
        let tools = &tools;
        async move { probe(tools, &target).await }
    };
    let limited_broadcast = "255.255.255.255";
    for kind in [CheckKind::Tcp, http("/")] {
        let asked = ask(check(kind), limited_broadcast, 80).await;
        assert_eq!(asked, unasked("no route to 255.255.255.255"));
    }
    for via in [Via::LocalAddress, Via::Vip] {
        let asked = ask(Check { via, ..check(CheckKind::Tcp) }, "127.0.0.1", 80).await;
        assert_eq!(asked, unasked("no way through the data plane"));
    }
    let asked = ask(check(CheckKind::Tcp), "127.0.0.1", 0).await;
    assert_eq!(asked, unasked("the server has no port of its own; give the check a port"));
}

#[tokio::test]
async fn datagrams_are_answered_or_at_least_not_refused() {
    let echo = answerer(|datagram| vec![[b"echo ", datagram].concat()]).await.port();
    let silent = answerer(|_| Vec::new()).await.port();
    let udp =
        |reply: Option<&[u8]>| CheckKind::Udp { send: b"ping".to_vec(), reply: reply.map(<[u8]>::to_vec) };
    assert_eq!(ask(udp(None), echo).await, Outcome::Good);
    assert_eq!(ask(udp(Some(b"")), echo).await, Outcome::Good);
    assert_eq!(ask(udp(Some(b"o ping")), echo).await, Outcome::Good);
    assert_eq!(ask(udp(Some(b"pong")), echo).await, bad("reply `echo ping` has no `pong` in it"));
    assert_eq!(ask_as(&hasty(udp(None)), silent).await, Outcome::Good);
    assert_eq!(ask_as(&hasty(udp(Some(b""))), silent).await, bad("no answer within 300 ms"));
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(ask(udp(None), nobody).await, bad("port unreachable"));
    assert_eq!(ask(udp(Some(b"")), nobody).await, bad("port unreachable"));
}

#[tokio::test]
async fn echoes_come_back() {
    let tools = Tools::new(Arc::new(Direct));
    for address in [ip("127.0.0.1"), ip("::1"), ip("127.77.0.1")] {
        let target = Target::new(&check(CheckKind::Ping), address, 80, None);
        assert_eq!(target.port, 0);
        assert_eq!(probe(&tools, &target).await, Outcome::Good, "{address}");
    }
}

fn program(script: &str, arguments: &[&str]) -> CheckKind {
    let given = arguments.iter().map(|argument| (*argument).to_owned());
    let arguments = ["-c", script, "script"].map(str::to_owned).into_iter().chain(given).collect();
    CheckKind::Exec { program: "/bin/sh".into(), arguments }
}

#[tokio::test]
async fn a_program_judges_by_its_exit_code() {
    assert_eq!(ask(program("exit 0", &[]), 80).await, Outcome::Good);
    assert_eq!(ask(program("exit 3", &[]), 80).await, bad("exit code 3"));
    let talks = program("echo 'CRITICAL: no master'; echo more; exit 2", &[]);
    assert_eq!(ask(talks, 80).await, bad("exit code 2: `CRITICAL: no master`"));
    let complains = program("printf '\\033[31mlost\\n' >&2; exit 1", &[]);
    assert_eq!(ask(complains, 80).await, bad("exit code 1: `?[31mlost`"));
    assert_eq!(ask(program("kill -9 $$", &[]), 80).await, bad("ended by signal 9"));
    let endless = program("yes | head -c 1000000; exit 1", &[]);
    assert_eq!(ask(endless, 80).await, bad("exit code 1: `y`"));
    let nothing = CheckKind::Exec { program: "/nowhere/check".into(), arguments: Vec::new() };
    assert_eq!(ask(nothing, 80).await, unasked("/nowhere/check: no such file or directory"));
}

#[tokio::test]
async fn a_program_is_told_its_target_and_no_shell_reads_it() {
    let script = "test \"$*\" = '127.0.0.1 80 10.0.0.9:443 $(id)' -a $FULCRUM_ADDRESS:$FULCRUM_PORT = 127.0.0.1:80 \
                  -a $FULCRUM_VIP:$FULCRUM_VIP_PORT = 10.0.0.9:443 -a -z \"$CARGO_MANIFEST_DIR\"";
    let kind = program(script, &["{address}", "{port}", "{vip}:{vip-port}", "$(id)"]);
    let vip = Some("10.0.0.9:443".parse().unwrap());
    let target = Target::new(&check(kind), Ipv4Addr::LOCALHOST.into(), 80, vip);
    assert_eq!(probe(&Tools::new(Arc::new(Direct)), &target).await, Outcome::Good);
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_with_its_children() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("children");
    let script = "sleep 1000 & echo $! > $1; sleep 1000 & echo $! >> $1; wait";
    let kind = program(script, &[file.to_str().unwrap()]);
    let check = Check { timeout: Duration::from_secs(1), ..check(kind) };
    assert_eq!(ask_as(&check, 80).await, bad("no answer within 1 s"));
    let children = std::fs::read_to_string(file).unwrap();
    assert_eq!(children.lines().count(), 2);
    for child in children.lines() {
        patiently("the child is killed", || !alive(child)).await;
    }
}

/// Whether a process still runs: neither gone nor a zombie.
pub(crate) fn alive(process: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ")
}

#[tokio::test]
async fn a_childs_open_pipe_keeps_nobody_waiting() {
    let kind = program("sleep 3 & exit 4", &[]);
    assert_eq!(ask(kind, 80).await, bad("exit code 4"));
}
