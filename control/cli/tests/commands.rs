//! The program `fulcrum` beside a fulcrum-control that has no data plane: what it prints, and its exit codes.

#![recursion_limit = "256"]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::{CONFIG, Room};

#[test]
fn services_are_added_changed_and_deleted() {
    let room = Room::running();
    room.fulcrum("service add udp 172.16.100.9:53 --scheduler rr --persistent 300 --netmask 255.255.255.0");
    room.fulcrum("server add udp 172.16.100.9:53 192.168.20.8 --forward dr --upper-threshold 9");
    let service = room.json("service list")[1].clone();
    let health = json!({
        "state": "unchecked", "since": null, "why": null, "healthy": true, "effective_weight": 1, "checks": [],
    });
    assert_eq!(
        service,
        json!({
            "protocol": "udp", "address": "172.16.100.9", "port": 53, "mark": null, "family": "ipv4",
            "scheduler": "rr", "scheduler_flags": [], "one_packet": false, "persistent": 300,
            "persistence_engine": null, "netmask": "255.255.255.0", "local_pool": null, "local_addresses": [],
            "interface": null, "mss": null, "client_address": "none", "timeouts": {}, "checks": [], "own_checks": [],
            "announce": "never", "announce_on": null, "announce_after": 5, "on_failure": "remove", "hysteresis": 0, "slow_start": 0,
            "sorry_server": null, "quorum": { "needed": 1, "healthy_weight": 1, "lost_since": null, "sorry": false },
            "counters": null,
            "servers": [{
                "service": "udp 172.16.100.9:53", "address": "192.168.20.8", "port": 53, "forward": "dr", "tunnel": null,
                "weight": 1, "upper_threshold": 9, "lower_threshold": 0, "admin": "enabled", "drain_until": null, "sorry": false,
                "health": health,
                "active": null, "inactive": null,
                "persistent": null, "counters": null,
            }],
        })
    );
    // An edit keeps what it does not name.
    room.fulcrum("service edit udp 172.16.100.9:53 --scheduler wlc --local-pool inside --interface lan");
    room.fulcrum("service edit udp 172.16.100.9:53 --add-local-address 192.168.20.99");
    room.fulcrum("server edit udp 172.16.100.9:53 192.168.20.8 --weight 7");
    let service = room.json("service show udp 172.16.100.9:53");
    assert_eq!(
        [&service["scheduler"], &service["persistent"], &service["netmask"], &service["local_pool"]],
        [&json!("wlc"), &json!(300), &json!("255.255.255.0"), &json!("inside")]
    );
    assert_eq!(service["local_addresses"], json!(["192.168.20.99"]));
    assert_eq!([&service["servers"][0]["weight"], &service["servers"][0]["upper_threshold"]], [7, 9]);
    room.fulcrum("service edit udp 172.16.100.9:53 --persistent 0 --local-pool none --interface none --delete-local-address 192.168.20.99");
    let service = room.json("service show udp 172.16.100.9:53");
    assert_eq!([&service["persistent"], &service["local_pool"], &service["interface"]], [&Value::Null; 3]);

    room.fulcrum("server delete udp 172.16.100.9:53 192.168.20.8");
    assert_eq!(room.json("server list udp 172.16.100.9:53"), json!([]));
    room.fulcrum("service delete udp 172.16.100.9:53");
    assert_eq!(
        room.fulcrum("service list"),
        "SERVICE              SCHEDULER  PERSISTENT  LOCAL-POOL  SERVERS  CONNECTIONS  IN-PACKETS  OUT-PACKETS\n\
         tcp 172.16.100.9:80  wrr        -           inside      1        -            -           -\n"
    );
}

#[test]
fn routes_neighbours_and_pools() {
    let room = Room::running();
    room.fulcrum("route add 10.1.0.0/16 --via 192.168.20.254 --mtu 1400");
    room.fulcrum("route add 10.2.0.0/16 --unreachable");
    room.fulcrum("route delete 10.2.0.0/16");
    assert_eq!(
        room.json("route list"),
        json!([
            {
                "to": "192.168.20.0/24", "kind": "connected", "via": null, "weight": null, "answers": null,
                "interface": "lan", "mtu": 1500,
            },
            {
                "to": "10.1.0.0/16", "kind": "static", "via": "192.168.20.254", "weight": null, "answers": null,
                "interface": null, "mtu": 1400,
            },
        ])
    );
    room.fulcrum("route replace 10.1.0.0/16 --via 192.168.20.254,3 --via 192.168.20.253");
    room.fulcrum("route replace 10.2.0.0/16 --blackhole");
    assert_eq!(
        room.fulcrum("route list"),
        "TO               KIND       VIA             WEIGHT  ANSWERS  INTERFACE  MTU\n\
         192.168.20.0/24  connected  -               -       -        lan        1500\n\
         10.1.0.0/16      static     192.168.20.254  3       -        -          -\n\
         10.1.0.0/16      static     192.168.20.253  1       -        -          -\n\
         10.2.0.0/16      blackhole  -               -       -        -          -\n"
    );
    room.fulcrum("neighbour add 192.168.20.7 02:00:00:00:20:07 --interface lan");
    assert_eq!(
        room.json("neighbour list"),
        json!([{
            "address": "192.168.20.7", "mac": "02:00:00:00:20:07", "interface": "lan", "state": "static", "parked": 0,
        }])
    );
    room.fulcrum("neighbour delete 192.168.20.7 --interface lan");
    assert_eq!(room.json("neighbour list"), json!([]));
    room.fulcrum("local-pool add small 192.168.20.210 --interface lan --ports 2000-2009");
    assert_eq!(
        room.fulcrum("local-pool list"),
        "NAME    INTERFACE  ADDRESSES                      PORTS       SERVICES             SNAT\n\
         inside  lan        192.168.20.200-192.168.20.203  1024-65535  tcp 172.16.100.9:80  -\n\
         small   lan        192.168.20.210                 2000-2009   -                    -\n"
    );
    room.fulcrum("local-pool delete small");
}

#[test]
fn checks_have_names_and_the_keys_of_the_file() {
    let room = Room::running();
    room.fulcrum("probe add web http path=/health host=www.example.org interval=500ms");
    room.fulcrum("probe add open tcp port=80");
    room.fulcrum("probe set web interval= rise=1 status=200,301");
    assert_eq!(
        room.fulcrum("probe list"),
        "NAME  TYPE  INTERVAL  TIMEOUT  RISE  FALL  REST                                                    SERVICES\n\
         web   http  5s        500ms    1     3     host=\"www.example.org\" path=\"/health\" status=\"200,301\"  -\n\
         open  tcp   5s        2s       2     3     port=80                                                 -\n"
    );
    room.fulcrum("probe delete open");
    let list = room.json("probe list");
    assert_eq!([&list[0]["type"], &list[0]["timeout_seconds"]], [&json!("http"), &json!(0.5)]);
    assert_eq!([&list[0]["keys"]["path"], &list[0]["keys"]["fall"]], [&json!("/health"), &json!(3)]);
    assert!(
        room.fulcrum("save").contains("[[check]]\nname = \"web\"\ntype = \"http\"\npath = \"/health\"\n")
    );
    for (code, words, why) in [
        (1, "probe add web tcp", "check `web` exists already"),
        (1, "probe add mine exec", "[[check]] needs `program`"),
        (1, "probe set open rise=1", "there is no check `open`"),
        (1, "probe set web rise=0", "rise of 0 is out of range; 1 to 1000"),
        (1, "probe delete open", "there is no check `open`"),
        (2, "probe add more telnet", "[possible values: tcp, http, https, udp, dns, smtp, ping, exec, grpc]"),
        (2, "probe set web colour=red", "`colour` is no key of a check; one of type, method"),
    ] {
        let said = room.refused(code, words);
        assert!(said.contains(why), "{words}: {said}");
    }
}

#[test]
fn rules_of_iptables_are_imported_whole_or_not_at_all() {
    let room = Room::running();
    let file = |lines: &[&str]| std::fs::write(room.path("rules"), lines.join("\n")).unwrap();
    let fine = "-A PREROUTING -d 172.16.100.9/32 -i lan -p tcp -m multiport --dports 80,443 -j MARK --set-xmark 0xa/0xffffffff";
    file(&["*mangle", ":PREROUTING ACCEPT [0:0]", fine, "-A PREROUTING -j MARK --or-mark 0x100", "COMMIT"]);
    assert_eq!(room.fulcrum("mark import rules"), "2 rules imported\n");
    let rules = room.json("mark list");
    assert_eq!([&rules[0]["ports"], &rules[0]["mark"]], [&json!(["80", "443"]), &json!(10)]);
    assert_eq!([&rules[1]["mark"], &rules[1]["mask"]], [256, 256]);
    file(&[fine, "-A PREROUTING -m state --state NEW -j MARK --set-mark 1", "-A PREROUTING -j ACCEPT"]);
    let said = room.refused(1, "mark import rules --replace");
    assert!(
        said.contains("rules:2: the match `state` cannot be expressed in `-A PREROUTING -m state"),
        "{said}"
    );
    assert!(said.contains("rules:3: the target `ACCEPT`") && said.ends_with("nothing imported\n"), "{said}");
    file(&[&fine.replace("lan", "eth0")]);
    assert!(room.refused(1, "mark import rules").contains("there is no interface `eth0`; known: lan"));
    assert!(room.refused(1, "mark import -").contains("no rule of the mangle table's PREROUTING chain"));
    assert_eq!(room.json("mark list"), rules);
    file(&[fine]);
    room.fulcrum("mark import rules --replace");
    assert_eq!(room.json("mark list").as_array().unwrap().len(), 1);
}

#[test]
fn whole_files_are_compared_applied_and_saved() {
    let room = Room::running();
    std::fs::write(room.path("new.toml"), CONFIG.replace("weight = 3", "weight = 0")).unwrap();
    let change = "~ server 192.168.20.7:8080 of service tcp 172.16.100.9:80: weight 3 -> 0\n";
    assert_eq!(room.fulcrum("diff new.toml"), change);
    assert_eq!(room.fulcrum("diff new.toml"), change);
    assert_eq!(room.fulcrum("apply new.toml"), change);
    assert_eq!(room.fulcrum("apply new.toml"), "nothing changed\n");
    assert_eq!(
        room.json("diff fulcrum.toml"),
        json!({ "changes": [change.trim().replace("3 -> 0", "0 -> 3")] })
    );

    let saved = room.fulcrum("save");
    room.fulcrum("save --to saved.toml");
    assert_eq!(std::fs::read_to_string(room.path("saved.toml")).unwrap(), saved);
    assert_eq!(room.fulcrum("diff saved.toml"), "nothing would change\n");
    assert_eq!(
        room.fulcrum("check saved.toml"),
        "saved.toml: fine: 1 port, 1 interface, 1 service, 1 server\n"
    );

    let broken = CONFIG.replace("weight = 3", "weight = 3\nheight = 4").replace("\"wrr\"", "\"rr\"");
    std::fs::write(room.path("broken.toml"), broken).unwrap();
    for command in ["check", "diff", "apply"] {
        let said = room.refused(1, &format!("{command} broken.toml"));
        assert!(said.starts_with("fulcrum: broken.toml:22: unknown key `height`"), "{said}");
    }
    assert_eq!(room.json("service list")[0]["scheduler"], "wrr");
    assert!(room.refused(1, "apply missing.toml").contains("missing.toml: No such file"));
}

#[test]
fn what_is_wrong_is_said_with_its_code() {
    let room = Room::running();
    let cases = [
        (1, "service add tcp 172.16.100.9:80", "fulcrum: service tcp 172.16.100.9:80 exists already\n"),
        (1, "service delete tcp 172.16.100.9:81", "fulcrum: there is no service tcp 172.16.100.9:81\n"),
        (1, "service show udp 172.16.100.9:80", "there is no service udp 172.16.100.9:80\n"),
        (1, "service edit tcp 172.16.100.9:80", "nothing to change in service tcp 172.16.100.9:80"),
        (1, "service add tcp 172.16.100.9:81 --scheduler best", "there is no scheduler `best`; known: rr"),
        (1, "server delete tcp 172.16.100.9:80 192.168.20.9:80", "has no server 192.168.20.9:80\n"),
        (1, "server edit tcp 172.16.100.9:80 192.168.20.9:80 --weight 1", "has no server 192.168.20.9:80\n"),
        (1, "route add 10.0.0.0/8 --via 10.0.0.1", "gateway 10.0.0.1 is on no interface's subnet"),
        (1, "local-pool delete inside", "is used by service tcp 172.16.100.9:80"),
        (1, "session list", "start fulcrum-dataplane"),
        (1, "port list", "start fulcrum-dataplane"),
        (1, "service zero", "start fulcrum-dataplane"),
        (2, "service add icmp 172.16.100.9:80", "[possible values: tcp, udp, sctp, fwm, fwm6]"),
        (2, "service add fwm 172.16.100.9:80", "`172.16.100.9:80` is no mark such as 10"),
        (2, "service add tcp web", "neither an address nor an address with a port"),
        (2, "server add tcp 172.16.100.9:80 192.168.20.9", "--forward"),
        (2, "route add 10.0.0.0/8", "--via"),
        (2, "route add 10.0.0.0/8 --via 192.168.20.254 --blackhole", "cannot be used with"),
        (2, "session list --client 10.0.0", "no end of a session, such as 10.0.0.2, 10.0.0.2:4000"),
        (2, "session list --state open", "no state of a session; known: ASSURED, "),
        (2, "session list --service icmp 10.0.0.1", "`icmp` is none of tcp, udp, sctp, fwm, fwm6"),
        (2, "service zero tcp", "ADDRESS[:PORT]"),
        (2, "frobnicate", "unrecognized subcommand"),
    ];
    for (code, words, text) in cases {
        let said = room.refused(code, words);
        assert!(said.contains(text), "fulcrum {words}: {said}");
    }
}

#[test]
fn a_change_without_a_data_plane_is_taken_and_noted() {
    let room = Room::running();
    let output = room.try_fulcrum("service add tcp 172.16.100.9:81");
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("the data plane is not connected"));
    let status = room.json("status");
    assert_eq!(status["control"]["services"], 2);
    assert_eq!(status["control"]["runtime_changes"], true);
    assert_eq!([&status["link"]["connected"], &status["dataplane"]], [&json!(false), &Value::Null]);
    assert!(room.fulcrum("status").contains("2 services, 1 server\n"));
}

#[test]
fn without_a_control_process_it_says_what_to_do() {
    let room = Room::new();
    for words in ["status", "service list", "apply fulcrum.toml", "save"] {
        let said = room.refused(1, words);
        assert!(said.contains("fulcrum-control is not running") && said.contains("start it"), "{said}");
    }
    assert_eq!(
        room.fulcrum("check fulcrum.toml"),
        "fulcrum.toml: fine: 1 port, 1 interface, 1 service, 1 server\n"
    );
}

#[test]
fn called_as_ipvsadm_it_is_ipvsadm() {
    let room = Room::running();
    let link = room.path("ipvsadm");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fulcrum"), &link).unwrap();
    let ipvsadm = |program: &Path, words: &[&str]| {
        let output = Command::new(program)
            .args(words)
            .env("FULCRUM_SOCKET", room.path("control.sock"))
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let saved = "-A -t 172.16.100.9:80 -s wrr";
    assert_eq!(ipvsadm(&link, &["-D", "-t", "1.2.3.4:5"]).0, 255);
    let (code, text) = ipvsadm(&link, &["-Sn"]);
    assert!(code == 0 && text.starts_with(saved), "{text}");
    let fulcrum = Path::new(env!("CARGO_BIN_EXE_fulcrum"));
    assert_eq!(ipvsadm(fulcrum, &["ipvsadm", "-Sn"]), (0, text));
    assert!(ipvsadm(fulcrum, &["ipvsadm", "-h"]).1.starts_with("ipvsadm v1.31"));
    assert_eq!(ipvsadm(fulcrum, &["ipvsadm", "-A", "-t", "1.2.3.4"]).0, 2);
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let room = Room::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(room.fulcrum(&format!("completion {shell}")).contains("local-pool"), "{shell}");
    }
    assert!(room.fulcrum("man").contains(".TH fulcrum 1"));
    assert!(room.fulcrum("man fulcrum.toml").contains(".TH fulcrum.toml 5"));
    room.fulcrum("man --directory pages");
    for page in [
        "fulcrum.1",
        "fulcrum-service-add.1",
        "fulcrum-local-pool-delete.1",
        "fulcrum-mark-add.1",
        "fulcrum-set.1",
    ] {
        assert!(room.path("pages").join(page).exists(), "{page}");
    }
}

#[test]
fn the_file_is_described_as_a_whole_and_in_parts() {
    let room = Room::new();
    let all = room.json("reference");
    let titles: Vec<_> =
        all.as_array().unwrap().iter().map(|table| table["table"].as_str().unwrap()).collect();
    assert!(titles.contains(&"[dataplane]") && titles.contains(&"[[service.server]]"), "{titles:?}");
    let port = room.json("reference port");
    assert_eq!(port[0]["keys"][0]["key"], "name");
    assert_eq!(port[0]["keys"][0]["required"], true);
    let text = room.fulcrum("reference [[check]]");
    let path = text.lines().skip_while(|line| !line.starts_with("  path = ")).nth(1).unwrap();
    assert!(path.contains("Only with `type` \"http\" or \"https\". By default \"/\"."), "{path}");
    let why = room.refused(1, "reference prot");
    assert!(why.contains("there is no table `prot`; known: dataplane, "), "{why}");
}

#[test]
fn the_file_is_read_again_and_what_is_wrong_with_it_is_said() {
    let room = Room::running();
    let text = std::fs::read_to_string(room.path("fulcrum.toml")).unwrap();
    std::fs::write(room.path("fulcrum.toml"), text.replace("172.16.100.9:80", "172.16.100.8:80")).unwrap();
    room.fulcrum("reload");
    assert_eq!(room.json("service list")[0]["address"], "172.16.100.8");
    std::fs::write(room.path("fulcrum.toml"), "[[service]]\nprotocol = \"tcp\"\n").unwrap();
    let said = room.refused(1, "reload");
    assert!(said.contains("fulcrum.toml:1:") && said.contains("address"), "{said}");
    assert_eq!(room.json("service list")[0]["address"], "172.16.100.8");
}
