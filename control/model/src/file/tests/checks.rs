//! Checks: how they are written, and what is wrong with some.

use std::time::Duration;

use super::super::*;
use super::errors;
use crate::state::*;

const EVERY_KIND: &str = r#"
[[check]]
name = "open"
type = "tcp"
interval = "500ms"
source = "192.168.20.1"
[[check]]
name = "web"
type = "https"
method = "GET"
path = "/health?deep=1"
host = "www.example.org"
status = "200-299,301"
body = "fine"
digest = "md5:0123456789abcdef0123456789ABCDEF"
tls-name = "www.example.org"
tls-ca = "/etc/ca.pem"
interval = "1m"
timeout = 30
rise = 1
fall = 5
warm-up = "2h"
port = 8443
via = "vip"
[[check]]
name = "plain"
type = "http"
[[check]]
name = "datagram"
type = "udp"
send-hex = "00ff 10"
expect = "pong\r\n"
[[check]]
name = "names"
type = "dns"
query = "example.org"
record = "MX"
rcode = "noerror"
answer = ["10 mail.example.org."]
[[check]]
name = "mail"
type = "smtp"
helo = "director.example.org"
starttls = true
verify = false
[[check]]
name = "echo"
type = "ping"
via = "local-address"
[[check]]
name = "own"
type = "exec"
program = "/bin/check"
arguments = ["-H", "{address}", "{vip}"]
[[check]]
name = "rpc"
type = "grpc"
service = "shop.v1.Orders"
tls = true
tls-name = "shop"
"#;

fn changed(from: &str, to: &str) -> Vec<String> {
    assert!(EVERY_KIND.contains(from), "{from}");
    errors(&EVERY_KIND.replacen(from, to, 1))
}

#[test]
fn every_kind_is_read_and_written() {
    let config = Config::parse("f", EVERY_KIND).unwrap();
    assert_eq!(Config::parse("g", &to_toml(&config)).unwrap(), config);
    let [open, web, plain, datagram, names, mail, echo, own, rpc] = &config.state.checks[..] else {
        panic!("nine checks")
    };
    let half = Duration::from_millis(500);
    let address = Some([192, 168, 20, 1].into());
    let expected =
        Check { interval: half, timeout: half, source: address, ..Check::new("open", CheckKind::Tcp) };
    assert_eq!(open, &expected, "the time-out is no longer than the interval");
    let expected = CheckKind::Http {
        tls: Some(CheckTls {
            name: Some("www.example.org".into()),
            ca: Some("/etc/ca.pem".into()),
            verify: true,
        }),
        method: HttpMethod::Get,
        path: "/health?deep=1".into(),
        host: Some("www.example.org".into()),
        status: StatusSet(vec![StatusRange { first: 200, last: 299 }, StatusRange { first: 301, last: 301 }]),
        body: Some("fine".into()),
        digest: Some(BodyDigest::Md5([
            0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
        ])),
    };
    assert_eq!(web.kind, expected);
    let seconds = Duration::from_secs;
    assert_eq!((web.interval, web.timeout, web.warm_up), (seconds(60), seconds(30), seconds(7200)));
    assert_eq!((web.rise, web.fall, web.port, web.via), (1, 5, Some(8443), Via::Vip));
    let expected = CheckKind::Http {
        tls: None,
        method: HttpMethod::Get,
        path: "/".into(),
        host: None,
        status: StatusSet::default(),
        body: None,
        digest: None,
    };
    assert_eq!(plain, &Check::new("plain", expected));
    let expected = CheckKind::Udp { send: vec![0, 255, 16], reply: Some(b"pong\r\n".to_vec()) };
    assert_eq!(datagram.kind, expected);
    let expected = CheckKind::Dns {
        query: "example.org".into(),
        record: DnsRecord::Mx,
        rcode: DnsRcode::NoError,
        answer: vec!["10 mail.example.org.".into()],
    };
    assert_eq!(names.kind, expected);
    let tls = Some(CheckTls { verify: false, ..CheckTls::default() });
    assert_eq!(mail.kind, CheckKind::Smtp { helo: Some("director.example.org".into()), tls });
    assert_eq!((&echo.kind, echo.via), (&CheckKind::Ping, Via::LocalAddress));
    // Local addresses are the service's, too.
    assert!(web.needs_vip() && own.needs_vip() && echo.needs_vip() && !open.needs_vip());
    let tls = Some(CheckTls { name: Some("shop".into()), ..CheckTls::default() });
    assert_eq!(rpc.kind, CheckKind::Grpc { service: "shop.v1.Orders".into(), tls });
}

#[test]
fn what_is_wrong_with_a_check_is_named() {
    let cases = [
        (
            "type = \"tcp\"",
            "type = \"telnet\"",
            "f:4: type `telnet` does not exist; one of \"tcp\", \"http\", \"https\", \"udp\", \"dns\", \"smtp\", \"ping\", \"exec\", \"grpc\"",
        ),
        ("type = \"tcp\"", "", "f:2: [[check]] needs `type`, such as type = \"http\""),
        ("name = \"open\"", "", "f:2: [[check]] needs `name`, such as name = \"web\""),
        (
            "name = \"open\"",
            "name = \"an open\"",
            "f:3: `an open` cannot name a check; use letters, digits and - _ . : @",
        ),
        ("name = \"open\"", "name = \"web\"", "f:8: two checks are called `web`"),
        ("\"500ms\"", "\"99ms\"", "f:5: interval of 99 ms is out of range; 100 ms to 86400 s"),
        (
            "\"500ms\"",
            "\"fast\"",
            "f:5: interval `fast` is no time; a number of seconds, or a text such as \"500ms\", \"2s\", \"1m\", \"1h\"",
        ),
        (
            "\"500ms\"",
            "0.5",
            "f:5: interval `0.5` is no time; a number of seconds, or a text such as \"500ms\", \"2s\", \"1m\", \"1h\"",
        ),
        (
            "\"500ms\"",
            "true",
            "f:5: interval is a boolean; it must be a number of seconds, or such as \"500ms\"",
        ),
        (
            "timeout = 30",
            "timeout = 61",
            "f:19: timeout of 61 s is longer than the interval, 60 s; at most that",
        ),
        ("rise = 1", "rise = 0", "f:20: rise of 0 is out of range; 1 to 1000"),
        ("port = 8443", "port = 0", "f:23: port of 0 is out of range; 1 to 65535"),
        ("\"192.168.20.1\"", "\"224.0.0.1\"", "f:6: 224.0.0.1 is not an address that a host can have"),
        (
            "via = \"vip\"",
            "via = \"vip\"\nsource = \"10.0.0.1\"",
            "f:25: via \"vip\" brings its own source address; leave source away",
        ),
        ("via = \"local-address\"", "port = 7", "f:49: a ping check has no port; leave port away"),
        (
            "path = \"/health?deep=1\"",
            "path = \"health\"",
            "f:11: `health` is no path of a URL, such as /health; others as %20",
        ),
        ("\"200-299,301\"", "\"200-\"", "f:13: status `` is not a status code, such as 200"),
        ("\"200-299,301\"", "\"299-200\"", "f:13: status 299-200 ends before it begins; swap the two"),
        ("\"200-299,301\"", "\"200-600\"", "f:13: status 200-600 is out of range; 100 to 599"),
        (
            "\"md5:0",
            "\"md5:",
            "f:15: digest `md5:123456789abcdef0123456789ABCDEF` is not a digest: \"sha256:\" and 64 hexadecimal digits, or \"md5:\" and 32",
        ),
        (
            "\"/etc/ca.pem\"",
            "\"ca.pem\"",
            "f:17: tls-ca `ca.pem` is no absolute path, such as /etc/fulcrum/ca.pem",
        ),
        (
            "\"00ff 10\"",
            "\"00ff1\"",
            "f:31: send-hex `00ff1` is no even number of hexadecimal digits, such as 00ff",
        ),
        (
            "expect = \"pong\\r\\n\"",
            "expect = \"\"",
            "f:32: expect is empty; write reply = true when any reply will do",
        ),
        (
            "query = \"example.org\"",
            "query = \"example..org\"",
            "f:36: `example..org` is no domain name, such as example.org",
        ),
        (
            "record = \"MX\"",
            "record = \"ANY\"",
            "f:37: record `ANY` does not exist; one of \"A\", \"AAAA\", \"CNAME\", \"MX\", \"NS\", \"PTR\", \"SOA\", \"SRV\", \"TXT\"",
        ),
        (
            "\"/bin/check\"",
            "\"check\"",
            "f:53: program `check` is no absolute path, such as /usr/lib/nagios/plugins/check_ldap",
        ),
        (
            "program = \"/bin/check\"",
            "program = \"/bin/check\"\nvia = \"vip\"",
            "f:54: a program finds its own way; only via \"direct\" goes with type \"exec\"",
        ),
        (
            "\"\ntls = true",
            "\"\ntls = false",
            "f:60: unknown key `tls-name` in [[check]]; known: name, type, interval, timeout, rise, fall, warm-up, port, source, via, service, tls",
        ),
        (
            "verify = false",
            "verify = false\ntls-ca = \"/ca.pem\"",
            "f:45: verify = false asks nobody to vouch for the server; leave tls-ca away",
        ),
    ];
    for (from, to, expected) in cases {
        assert_eq!(changed(from, to), [expected], "{to}");
    }
    assert_eq!(
        changed("method = \"GET\"", "method = \"HEAD\""),
        [
            "f:14: an answer to HEAD has no body; use GET, or leave body away",
            "f:15: an answer to HEAD has no body; use GET, or leave digest away"
        ]
    );
}

#[test]
fn edits_of_checks_are_judged() {
    let mut state = State::default();
    let check = Check::new("web", CheckKind::Tcp);
    state.apply(&crate::Edit::AddCheck(check.clone())).unwrap();
    let refused = |state: &mut State, edit| state.apply(&edit).unwrap_err().to_string();
    assert_eq!(refused(&mut state, crate::Edit::AddCheck(check.clone())), "check `web` exists already");
    let slow = Check { rise: 0, ..check.clone() };
    let why = refused(&mut state, crate::Edit::UpdateCheck(slow));
    assert_eq!(why, "rise of 0 is out of range; 1 to 1000");
    let ping = Check::new("web", CheckKind::Ping);
    state.apply(&crate::Edit::UpdateCheck(ping.clone())).unwrap();
    assert_eq!(state.checks, [ping]);
    state.apply(&crate::Edit::DeleteCheck("web".into())).unwrap();
    assert_eq!(refused(&mut state, crate::Edit::DeleteCheck("web".into())), "there is no check `web`");
    assert_eq!(refused(&mut state, crate::Edit::UpdateCheck(check)), "there is no check `web`");
}
