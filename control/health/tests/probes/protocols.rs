//! HTTP, TLS, DNS, SMTP and gRPC: real servers for what is right, small ones for what is odd.

use std::process::Command;

use crate::support::*;
use fulcrum_health::Outcome;
use fulcrum_model::{CheckKind, CheckTls};

/// What a server says, by itself and in answer, and what that is worth.
type Talk<T> = (&'static [u8], &'static [&'static [u8]], T);

#[tokio::test]
async fn http_answers_are_judged_by_status_and_body() {
    let port = free_port();
    let servers = format!(
        "server {{ listen 127.0.0.1:{port}; server_name other.example.org; return 404; }}
         server {{ listen 127.0.0.1:{port}; server_name www.example.org;
             location = /health {{ return 200 'all is fine\\n'; }}
             location = /host {{ return 200 $http_host; }}
             location = /query {{ return 200 $args; }}
             location = /away {{ return 302 /health; }}
             location = /broken {{ return 503 oh; }} }}"
    );
    let _nginx = Nginx::start(tempfile::tempdir().unwrap(), &servers, port);
    let www = "host = \"www.example.org\"";
    let digest = "sha256:97bb4b8adcbaa7bdb64ae6d97de9bb8d4ca1ad4cb61dcf6d6d04f4bd9db3b27f";
    let cases = [
        ("path = \"/health\"", www, Outcome::Good),
        ("path = \"/health\"", "host = \"other.example.org\"", bad("status 404, expected 200-299")),
        ("path = \"/broken\"", www, bad("status 503, expected 200-299")),
        ("path = \"/broken\"\nstatus = \"200,500-503\"", www, Outcome::Good),
        ("path = \"/away\"", www, bad("status 302, expected 200-299")),
        ("path = \"/away\"\nstatus = \"302\"", www, Outcome::Good),
        ("path = \"/health\"\nmethod = \"HEAD\"", www, Outcome::Good),
        ("path = \"/health\"\nbody = \"is fine\"", www, Outcome::Good),
        (
            "path = \"/health\"\nbody = \"in order\"",
            www,
            bad("no `in order` in the body, which begins `all is fine`"),
        ),
        ("path = \"/query?deep=1&x=%20\"\nbody = \"deep=1&x=%20\"", www, Outcome::Good),
        ("path = \"/host\"\nbody = \"www.example.org\"", www, Outcome::Good),
        ("path = \"/health\"\ndigest = \"md5:8c8c5f1fe9e0a9ac9d2f0a05bd1b4ea6\"", www, bad("")),
        (&format!("path = \"/health\"\ndigest = \"{digest}\""), www, bad("")),
    ];
    let sums = ["md5", "sha256"].map(|name| {
        let sum = format!("printf 'all is fine\\n' | {name}sum | cut -d' ' -f1");
        let sum = Command::new("sh").args(["-c", &sum]).output().unwrap().stdout;
        format!("{name}:{}", String::from_utf8(sum).unwrap().trim())
    });
    for (keys, host, expected) in cases {
        let asked = ask_as(&written(&format!("type = \"http\"\n{keys}\n{host}")), port).await;
        match (keys.contains("digest"), &asked) {
            (true, Outcome::Bad(why)) => {
                let right = sums.iter().find(|sum| why.contains(sum.as_str()));
                let right = right.unwrap_or_else(|| panic!("{why} names the digest that it is"));
                let keys = format!("type = \"http\"\npath = \"/health\"\n{host}\ndigest = \"{right}\"");
                assert_eq!(ask_as(&written(&keys), port).await, Outcome::Good);
            }
            _ => assert_eq!(asked, expected, "{keys} {host}"),
        }
    }
}

#[tokio::test]
async fn certificates_are_verified_when_they_are_to_be() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let (port, plain) = (free_port(), free_port());
    let root = folder.path().to_owned();
    let servers = format!(
        "server {{ listen 127.0.0.1:{plain}; return 204; }}
         server {{ listen 127.0.0.1:{port} ssl; return 200 \"$ssl_server_name $ssl_protocol\";
             ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key; }}",
        root.display()
    );
    let _nginx = Nginx::start(folder, &servers, port);
    let https = |keys: &str| {
        let ca = root.join("ca.pem");
        written(&format!("type = \"https\"\n{}", keys.replace("CA", &ca.display().to_string())))
    };
    let name = "host = \"www.example.org:8443\"\nbody = \"www.example.org TLSv1.3\"\ntls-ca = \"CA\"";
    assert_eq!(ask_as(&https(name), port).await, Outcome::Good, "the name is the host's");
    assert_eq!(ask_as(&https("tls-ca = \"CA\""), port).await, Outcome::Good, "or the address");
    let other = "host = \"www.example.org\"\ntls-name = \"shop.example.org\"\ntls-ca = \"CA\"";
    assert_eq!(ask_as(&https(other), port).await, bad("its certificate is not for shop.example.org"));
    let unverified = "tls-name = \"shop.example.org\"\nverify = false";
    assert_eq!(ask_as(&https(unverified), port).await, Outcome::Good);
    assert_eq!(ask_as(&https("tls-ca = \"CA\""), plain).await, bad("it does not speak TLS"));
    certificates(&root);
    let strange = ask_as(&https("tls-ca = \"CA\""), port).await;
    assert!(matches!(&strange, Outcome::Bad(why) if why.starts_with("its certificate is")), "{strange:?}");
    std::fs::write(root.join("ca.pem"), "").unwrap();
    let Outcome::Unasked(why) = ask_as(&https("tls-ca = \"CA\""), port).await else {
        panic!("nobody to trust")
    };
    assert!(why.ends_with("ca.pem holds no certificate"), "{why}");
    std::fs::remove_file(root.join("ca.pem")).unwrap();
    let Outcome::Unasked(why) = ask_as(&https("tls-ca = \"CA\""), port).await else { panic!("no file") };
    assert!(why.ends_with("ca.pem: no such file or directory"), "{why}");
}

#[tokio::test]
async fn odd_answers_to_http_are_bad_ones() {
    let cases: [Talk<&str>; 5] = [
        (b"", &[b""], "connection closed before the answer was complete"),
        (b"", &[b"220 mail.example.org\r\n"], "the answer is no HTTP"),
        (b"SSH-2.0-OpenSSH\r\n", &[b""], "the answer is no HTTP"),
        (
            b"",
            &[b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"],
            "connection closed before the answer was complete",
        ),
        (b"", &[b"HTTP/1.1 999 Odd\r\n\r\n"], "status 999, expected 200-299"),
    ];
    for (greeting, answers, why) in cases {
        let port = talker(greeting, answers).await.port();
        let asked = ask_as(&written("type = \"http\"\nbody = \"x\""), port).await;
        assert_eq!(asked, bad(why), "{greeting:?} {answers:?}");
    }
    let long: &'static [u8] = Box::leak(
        [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b'x'; 3 << 20], b"end"].concat().into_boxed_slice(),
    );
    let port = talker(b"", Box::leak(Box::new([long]))).await.port();
    assert_eq!(ask_as(&written("type = \"http\"\nbody = \"xx\""), port).await, Outcome::Good);
    let asked = ask_as(&written("type = \"http\"\nbody = \"end\""), port).await;
    let x = "x".repeat(100);
    assert_eq!(asked, bad(&format!("no `end` in the body, which begins `{x}…`")), "a body is read in part");
    let digest = format!("type = \"http\"\ndigest = \"md5:{}\"", "0".repeat(32));
    let asked = ask_as(&written(&digest), port).await;
    assert_eq!(asked, bad("the body is longer than 1 MiB, which is what a digest is made of"));
}

#[tokio::test]
async fn name_servers_answer_what_is_expected() {
    let port = free_port();
    let mut dnsmasq = Command::new("dnsmasq");
    let options = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--listen-address=127.0.0.1",
        "--pid-file=",
        "--user=root",
        "--local=/example.org/",
        "--host-record=www.example.org,192.0.2.1",
        "--host-record=www.example.org,2001:db8::1",
        "--mx-host=example.org,mail.example.org,10",
        "--txt-record=example.org,v=spf1 -all",
        "--log-facility=-",
        "--cname=web.example.org,www.example.org",
        "--srv-host=_sip._udp.example.org,sip.example.org,5060",
    ];
    dnsmasq.args(options).arg(format!("--port={port}")).stderr(std::process::Stdio::null());
    let _dnsmasq = Program::start(&mut dnsmasq, port);
    let cases = [
        ("query = \"www.example.org\"", Outcome::Good),
        ("query = \"www.example.org\"\nanswer = [\"192.0.2.1\"]", Outcome::Good),
        (
            "query = \"www.example.org\"\nanswer = [\"192.0.2.2\"]",
            bad("answer `192.0.2.1`, expected 192.0.2.2"),
        ),
        ("query = \"WWW.example.org.\"\nrecord = \"AAAA\"\nanswer = [\"2001:DB8::1\"]", Outcome::Good),
        ("query = \"example.org\"\nrecord = \"MX\"\nanswer = [\"10 mail.example.org.\"]", Outcome::Good),
        ("query = \"example.org\"\nrecord = \"TXT\"\nanswer = [\"v=spf1 -all\"]", Outcome::Good),
        ("query = \"web.example.org\"\nanswer = [\"www.example.org\", \"192.0.2.1\"]", Outcome::Good),
        (
            "query = \"_sip._udp.example.org\"\nrecord = \"SRV\"\nanswer = [\"0 0 5060 sip.example.org\"]",
            Outcome::Good,
        ),
        ("query = \"no.example.org\"", bad("response code nxdomain, expected noerror")),
        ("query = \"no.example.org\"\nrcode = \"nxdomain\"", Outcome::Good),
        (
            "query = \"www.example.org\"\nrecord = \"MX\"\nanswer = [\"10 mail\"]",
            bad("no answer, expected 10 mail"),
        ),
        ("query = \"example.com\"", bad("response code refused, expected noerror")),
    ];
    for (keys, expected) in cases {
        assert_eq!(ask_as(&written(&format!("type = \"dns\"\n{keys}")), port).await, expected, "{keys}");
    }
}

#[tokio::test]
async fn answers_to_other_questions_are_passed_over() {
    let query = || CheckKind::Dns {
        query: "example.org".into(),
        record: Default::default(),
        rcode: Default::default(),
        answer: Vec::new(),
    };
    let answered = |question: &[u8]| {
        let mut answer = question.to_vec();
        answer[2] |= 0x80;
        answer
    };
    let noise = answerer(move |question| {
        let right = answered(question);
        let mut other = right.clone();
        other[0] ^= 1;
        vec![b"?".to_vec(), question.to_vec(), other, right]
    });
    assert_eq!(ask(query(), noise.await.port()).await, Outcome::Good);
    let only_noise = answerer(|question| vec![question.to_vec(), question[..11].to_vec()]).await;
    assert_eq!(ask_as(&hasty(query()), only_noise.port()).await, bad("no answer within 300 ms"));
    let cut = answerer(move |question| {
        let mut answer = answered(question);
        answer[7] = 1;
        vec![answer]
    });
    let expecting = written("type = \"dns\"\nquery = \"example.org\"\nanswer = [\"192.0.2.1\"]");
    assert_eq!(ask_as(&expecting, cut.await.port()).await, bad("the answer cannot be understood"));
}

#[tokio::test]
async fn mail_servers_greet_with_and_without_tls() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let port = free_port();
    let script = format!(
        "import ssl, time
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('{0}/server.pem', '{0}/server.key')
Controller(Sink(), hostname='127.0.0.1', port={port}, tls_context=context).start()
time.sleep(1000)",
        folder.path().display()
    );
    let mut python = Command::new("/usr/bin/python3");
    let _server = Program::start(python.args(["-c", &script]), port);
    let smtp = |tls| CheckKind::Smtp { helo: Some("director.example.org".into()), tls };
    assert_eq!(ask(smtp(None), port).await, Outcome::Good);
    assert_eq!(ask(CheckKind::Smtp { helo: None, tls: None }, port).await, Outcome::Good);
    let ca = folder.path().join("ca.pem");
    assert_eq!(ask(smtp(Some(trusting(&ca, "www.example.org"))), port).await, Outcome::Good);
    let asked = ask(smtp(Some(trusting(&ca, "mail.example.org"))), port).await;
    assert_eq!(asked, bad("its certificate is not for mail.example.org"));
}

#[tokio::test]
async fn odd_mail_servers_are_bad_ones() {
    let cases: [Talk<Outcome>; 8] = [
        (b"220 old\r\n", &[b"502 what?\r\n", b"250 hello\r\n", b"221 bye\r\n"], Outcome::Good),
        (b"220-we\r\n220 here\r\n", &[b"250-old\r\n250 SIZE\r\n"], Outcome::Good),
        (b"554 go away\r\n", &[b""], bad("greeting is `554 go away`, expected 220")),
        (b"HTTP/1.1 400 Bad\r\n", &[b""], bad("`HTTP/1.1 400 Bad` is no reply of a mail server")),
        (b"220 hi\r\n", &[b"421 busy\r\n"], bad("answer to EHLO is `421 busy`, expected 250")),
        (b"220 hi\r\n", &[b"500 what?\r\n", b"550 no\r\n"], bad("answer to HELO is `550 no`, expected 250")),
        (b"220 hi\r\n", &[], bad("connection closed before the answer")),
        (b"220", &[b"x"], bad("no answer within 300 ms")),
    ];
    for (greeting, answers, expected) in cases {
        let port = talker(greeting, answers).await.port();
        let mut check = hasty(CheckKind::Smtp { helo: Some("me".into()), tls: None });
        if !matches!(&expected, Outcome::Bad(why) if why.starts_with("no answer")) {
            check = crate::support::check(check.kind);
        }
        let asked = ask_as(&check, port).await;
        // A server that closes with our words unread resets the connection.
        let reset = bad("connection reset");
        assert!(asked == expected || (answers.is_empty() && asked == reset), "{answers:?}: {asked:?}");
    }
    let tls = Some(CheckTls::default());
    let port = talker(b"220 hi\r\n", &[b"250 hi\r\n", b"454 not now\r\n"]).await.port();
    let asked = ask(CheckKind::Smtp { helo: None, tls: tls.clone() }, port).await;
    assert_eq!(asked, bad("answer to STARTTLS is `454 not now`, expected 220"));
    let port = talker(b"220 hi\r\n", &[b"250 hi\r\n", b"220 go\r\n250 injected\r\n"]).await.port();
    let asked = ask(CheckKind::Smtp { helo: None, tls }, port).await;
    assert_eq!(asked, bad("it talks on between STARTTLS and TLS"));
}

#[tokio::test]
async fn grpc_servers_say_how_they_are() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop.v1.Orders", tonic_health::ServingStatus::NotServing).await;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
    let grpc = |service: &str, tls| CheckKind::Grpc { service: service.to_owned(), tls };
    assert_eq!(ask(grpc("", None), port).await, Outcome::Good);
    assert_eq!(ask(grpc("shop.v1.Orders", None), port).await, bad("it says NOT_SERVING"));
    assert_eq!(ask(grpc("shop.v1.Carts", None), port).await, bad("it knows no service `shop.v1.Carts`"));

    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let ca = folder.path().join("ca.pem");
    let (secure, other) = (free_port(), free_port());
    let servers = format!(
        "server {{ listen 127.0.0.1:{other} http2; return 404; }}
         server {{ listen 127.0.0.1:{secure} ssl http2; location / {{ grpc_pass grpc://127.0.0.1:{port}; }}
             ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {0}/server.pem; ssl_certificate_key {0}/server.key; }}",
        folder.path().display()
    );
    let _nginx = Nginx::start(folder, &servers, secure);
    assert_eq!(ask(grpc("", Some(trusting(&ca, "www.example.org"))), secure).await, Outcome::Good);
    let asked = ask(grpc("", Some(trusting(&ca, "shop.example.org"))), secure).await;
    assert_eq!(asked, bad("its certificate is not for shop.example.org"));
    assert_eq!(ask(grpc("", None), other).await, bad("the answer is no gRPC"));
    let port = talker(b"", &[b"HTTP/1.1 400 Bad Request\r\n\r\n"]).await.port();
    assert!(matches!(ask(grpc("", None), port).await, Outcome::Bad(_)));
}
