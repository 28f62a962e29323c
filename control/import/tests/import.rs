//! Configurations of keepalived and ldirectord, those that Debian's packages bring as examples among them.

use std::path::{Path, PathBuf};
use std::process::Command;

use fulcrum_import::{Disk, Import, ImportError, keepalived, ldirectord};
use fulcrum_model::file::state_to_toml;
use fulcrum_model::{Admin, CheckKind, Config, Forward, OnFailure, ServiceKey, TunnelKind};
use proptest::prelude::*;

fn of_keepalived(text: &str) -> Result<Import, ImportError> {
    keepalived::import(&Disk, Path::new("keepalived.conf"), text, None)
}

/// Lines that were left out, with their words.
fn left_out(import: &Import) -> Vec<(usize, &str)> {
    import.left_out.iter().map(|left| (left.place.line, left.what.as_str())).collect()
}

/// What is imported is a part of a valid file, and comes back out of it.
fn is_valid(name: &str, import: &Import) {
    let state = &import.state;
    let mut grounds = String::from("[[port]]\nname = \"lan\"\ndevice = \"eth1\"\n");
    for pool in &state.local_pools {
        grounds += &format!("[[interface]]\nname = \"{}\"\nport = \"lan\"\n", pool.interface);
    }
    let text = grounds + &state_to_toml(state);
    let read = Config::parse(name, &text).unwrap_or_else(|errors| panic!("{errors}\nin:\n{text}")).state;
    assert_eq!((&read.services, &read.checks), (&state.services, &state.checks), "{name}");
}

/// The folder of a package's examples: the installed one, or, where documentation is not installed, the package's.
fn examples(package: &str, folder: &str) -> (PathBuf, Option<tempfile::TempDir>) {
    let installed = PathBuf::from("/usr/share/doc").join(package).join(folder);
    if installed.is_dir() {
        return (installed, None);
    }
    let temporary = tempfile::tempdir().unwrap();
    let script = format!("apt-get download -qq {package} && dpkg-deb -x {package}_*.deb .");
    let done = Command::new("sh").args(["-ec", &script]).current_dir(temporary.path()).status().unwrap();
    assert!(done.success(), "no examples of {package}: is its package known to apt?");
    (temporary.path().join("usr/share/doc").join(package).join(folder), Some(temporary))
}

#[test]
fn every_example_of_keepalived_is_read() {
    let (folder, _kept) = examples("keepalived", "samples");
    let (mut files, mut services, mut checks) = (0, 0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with("keepalived.conf") || name.ends_with(".gz") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let import = keepalived::import(&Disk, &path, &text, None).unwrap();
        is_valid(&name, &import);
        // Nothing about virtual servers that these examples have is new to us but what is known to be different.
        for left in &import.left_out {
            assert_ne!(left.why, "there is nothing like it", "{left}");
        }
        let in_text = text.lines().filter(|line| line.starts_with("virtual_server ")).count();
        assert!(import.state.services.len() >= in_text, "{name}: {:?}", import.left_out);
        files += 1;
        services += import.state.services.len();
        checks += import.state.checks.len();
    }
    assert!(
        files >= 20 && services >= 25 && checks >= 15,
        "{files} files, {services} services, {checks} checks"
    );
}

#[test]
fn the_example_of_ldirectord_is_read_with_what_it_has_commented_out() {
    let (folder, _kept) = examples("ldirectord", "examples");
    let text = std::fs::read_to_string(folder.join("ldirectord.cf")).unwrap();
    let import = ldirectord::import("ldirectord.cf", &text).unwrap();
    is_valid("ldirectord.cf", &import);
    assert_eq!(import.state.services.len(), 1);
    let service = &import.state.services[0];
    assert_eq!((service.scheduler.as_str(), service.servers.len()), ("rr", 3));
    assert_eq!(service.health.checks, ["http"]);
    assert_eq!(service.health.sorry_server.as_ref().map(|sorry| sorry.forward), Some(Forward::Local));
    let CheckKind::Http { path, host, body, .. } = &import.state.checks[0].kind else { panic!() };
    assert_eq!(
        (path.as_str(), host.as_deref(), body.as_deref()),
        ("/index.html", Some("www.x.y.z"), Some("Test Page"))
    );

    let all: Vec<&str> = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with("virtual") || rest.starts_with('\t') => rest,
            _ => line,
        })
        .collect();
    let import = ldirectord::import("ldirectord.cf", &all.join("\n")).unwrap();
    is_valid("ldirectord.cf", &import);
    assert!(import.state.services.len() >= 18, "{:?}", import.left_out);
}

#[test]
fn a_virtual_server_of_keepalived_with_everything() {
    let text = r#"
global_defs {
    lvs_timeouts tcp 7200 tcpfin 30 udp 60
    router_id X
}
local_address_group L {
    10.9.0.1-9 dpdk0
}
virtual_server 10.0.0.1 443 {
    lvs_sched mh
    mh-port
    lvs_method TUN type gue port 6080 nocsum
    persistence_timeout
    persistence_granularity 255.255.255.0
    protocol TCP
    quorum 3
    hysteresis 1
    quorum_up "/bin/true"
    inhibit_on_failure
    sorry_server 10.1.0.9 443
    sorry_server_lvs_method NAT
    delay_loop 2.5
    virtualhost www.example.org
    laddr_group_name L
    real_server 10.1.0.1 443 {
        weight 5
        uthreshold 100
        lthreshold 80
        notify_up "/bin/true"
        SSL_GET {
            url {
                path /a
                status_code 200 301-302
            }
            url {
                path /b
                regex hello
                regex_no_match
            }
            enable_sni
            connect_port 8443
            connect_timeout 9
            retry 2
        }
        MISC_CHECK {
            misc_path "/bin/check 'a b' c"
            misc_timeout 1
            misc_dynamic
        }
    }
    real_server 10.1.0.2 443 {
        lvs_method FNAT
        DNS_CHECK {
            type A
            name example.org
            connect_ip 10.2.0.2
        }
        BFD_CHECK {
            name B
        }
    }
    real_server 10.1.0.3 {
    }
    real_server web4 443 {
    }
}
"#;
    let import = of_keepalived(text).unwrap();
    is_valid("keepalived.conf", &import);
    let state = &import.state;
    assert_eq!((state.timeouts.tcp, state.timeouts.tcp_fin, state.timeouts.udp), (7200, 30, 60));
    assert_eq!(state.local_pools[0].interface, "dpdk0");
    let [service] = state.services.as_slice() else { panic!("{:?}", import.left_out) };
    assert_eq!((service.scheduler.as_str(), service.scheduler_flag_names()), ("mh", vec!["mh-port"]));
    assert_eq!((service.persistent, service.prefix), (Some(360), 24));
    assert_eq!((service.health.quorum, service.health.hysteresis), (3, 1));
    assert_eq!(service.local_pool.as_deref(), Some("L"));
    let sorry = service.health.sorry_server.as_deref().unwrap();
    assert_eq!((sorry.forward, sorry.key.to_string().as_str()), (Forward::Nat, "10.1.0.9:443"));
    let [first, second, third] = service.servers.as_slice() else { panic!() };
    assert_eq!((first.forward, first.tunnel.kind), (Forward::Tun, TunnelKind::Gue { port: 6080 }));
    assert_eq!((first.weight, first.upper_threshold, first.lower_threshold), (5, 100, 80));
    assert_eq!(first.health.on_failure, Some(OnFailure::Quiesce));
    assert_eq!((second.forward, second.health.address), (Forward::FullNat, Some([10, 2, 0, 2].into())));
    assert_eq!(third.key.to_string(), "10.1.0.3:443");
    let checks = |names: &Option<Vec<String>>| names.as_ref().unwrap_or(&service.health.checks).join(" ");
    assert_eq!(checks(&first.health.checks), "https https-2 exec");
    assert_eq!(checks(&second.health.checks), "dns");
    assert_eq!(checks(&third.health.checks), "");
    let https = &state.checks[0];
    assert_eq!((https.port, https.fall, https.rise), (Some(8443), 3, 1));
    // A probe ends before the next one begins.
    assert_eq!((https.interval.as_millis(), https.timeout.as_millis()), (2500, 2500));
    let CheckKind::Http { tls: Some(tls), host, status, .. } = &https.kind else { panic!() };
    assert_eq!(
        (tls.verify, host.as_deref(), status.to_string().as_str()),
        (false, Some("www.example.org"), "200,301-302")
    );
    let CheckKind::Http { body, .. } = &state.checks[1].kind else { panic!() };
    assert_eq!(body.as_deref(), Some("hello"));
    let CheckKind::Exec { program, arguments } = &state.checks[2].kind else { panic!() };
    assert_eq!((program.as_str(), arguments.join("|").as_str()), ("/bin/check", "a b|c"));
    let expected = [
        (4, "router_id X"),
        (6, "local_address_group L"),
        (18, "quorum_up /bin/true"),
        (29, "notify_up /bin/true"),
        (38, "regex_no_match"),
        (42, "connect_timeout 9"),
        (48, "misc_dynamic"),
        (58, "BFD_CHECK"),
        (64, "real_server web4 443"),
    ];
    assert_eq!(left_out(&import), expected);
}

#[test]
fn groups_and_marks_are_as_many_services() {
    let text = "virtual_server group G {\n protocol UDP\n real_server fd00::1 {\n }\n}\n\
                virtual_server_group G {\n fd00:1::2-4 53\n fwmark 7\n fwmark 8 inet6\n bad\n}\n\
                virtual_server group H {\n}\n";
    let import = of_keepalived(text).unwrap();
    is_valid("keepalived.conf", &import);
    let keys: Vec<String> = import.state.services.iter().map(|service| service.key.to_string()).collect();
    let expected =
        ["udp [fd00:1::2]:53", "udp [fd00:1::3]:53", "udp [fd00:1::4]:53", "fwm 7 IPv6", "fwm 8 IPv6"];
    assert_eq!(keys, expected);
    assert_eq!(left_out(&import), [(10, "bad"), (12, "virtual_server group H")]);
}

#[test]
fn services_that_cannot_be_are_named_whole() {
    let text = "virtual_server 10.0.0.1 80 {\n lb_algo best\n}\nvirtual_server 10.0.0.2 80 {\n}\nvirtual_server 10.0.0.2 80 {\n}\n";
    let import = of_keepalived(text).unwrap();
    assert_eq!(import.state.services.len(), 1);
    assert_eq!(left_out(&import), [(1, "virtual_server 10.0.0.1 80"), (6, "virtual_server 10.0.0.2 80")]);
    assert!(import.left_out[0].why.contains("best"), "{}", import.left_out[0]);
}

#[test]
fn a_virtual_service_of_ldirectord_with_everything() {
    let text = "\
checkinterval = 4
negotiatetimeout = 3
failurecount = 2
fallback = 10.1.0.99:80
emailalert = a@example.org
virtual = 10.0.0.1:http
\treal = 10.1.0.1->10.1.0.3:8080 masq 5 \"up.html\", \"fine\"
\treal = 10.1.0.9:8081 masq 1 <l:10> <u:20>
\trequest = \"index.html\"
\treceive = \"I am .*\"
\tschedflags = sh-port,nothing
\tscheduler = sh
\tcheckport = 8081
virtual = 5
\treal = 10.1.0.1 gate
\tchecktype = external
\tcheckcommand = \"/usr/bin/check -x\"
\tquiescent = no
virtual6 = [fd00::1]:53
\treal6 = [fd00:1::1]:53 masq
\tchecktype = off
virtual = www:80
\treal = 10.1.0.1 gate
";
    let import = ldirectord::import("l.cf", text).unwrap();
    is_valid("l.cf", &import);
    let [http, mark, dns] = import.state.services.as_slice() else { panic!("{:?}", import.left_out) };
    assert_eq!(http.health.on_failure, OnFailure::Quiesce);
    assert_eq!(http.scheduler_flag_names(), ["sh-port"]);
    let servers: Vec<String> =
        http.servers.iter().map(|server| format!("{} {}", server.key, server.weight)).collect();
    assert_eq!(servers, ["10.1.0.1:8080 5", "10.1.0.2:8080 5", "10.1.0.3:8080 5", "10.1.0.9:8081 1"]);
    assert_eq!((http.servers[3].lower_threshold, http.servers[3].upper_threshold), (10, 20));
    let sorry = http.health.sorry_server.as_deref().unwrap();
    assert_eq!((sorry.forward, sorry.key.to_string().as_str()), (Forward::Dr, "10.1.0.99:80"));
    let own = &import.state.checks[0];
    assert_eq!((own.interval.as_secs(), own.timeout.as_secs(), own.fall, own.port), (4, 3, 2, Some(8081)));
    let CheckKind::Http { path, body, .. } = &own.kind else { panic!() };
    assert_eq!((path.as_str(), body.as_deref()), ("/up.html", Some("fine")));

    assert_eq!((mark.key.mark(), mark.health.on_failure), (Some(5), OnFailure::Remove));
    let exec = import.state.checks.iter().find(|check| mark.health.checks.contains(&check.name)).unwrap();
    let CheckKind::Exec { program, arguments } = &exec.kind else { panic!() };
    assert_eq!(
        (program.as_str(), arguments.join(" ").as_str()),
        ("/usr/bin/check", "-x {vip} {vip-port} {address} {port}")
    );

    assert!(matches!(dns.key, ServiceKey::Address { port: 53, .. }));
    assert_eq!((dns.servers[0].admin, dns.health.sorry_server.is_none()), (Admin::Disabled, true));
    let lines: Vec<usize> = import.left_out.iter().map(|left| left.place.line).collect();
    assert_eq!(lines, [5, 10, 11, 22], "{:?}", import.left_out);
}

proptest! {
    #[test]
    fn nothing_makes_them_panic(words in prop::collection::vec("(virtual_server|real_server|10\\.0\\.0\\.[0-9]{1,3}|[{}\"\n$=@#!]|HTTP_GET|url|fwmark|group|\\PC{0,4}|real=|virtual=|\t| |->|:80)", 0..60)) {
        let text = words.concat();
        let _ = of_keepalived(&text);
        let _ = of_keepalived(&words.join(" "));
        let _ = ldirectord::import("l.cf", &text);
    }
}
