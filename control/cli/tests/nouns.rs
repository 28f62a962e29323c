//! Everything that a service, a server, a rule, a time-out and a setting can be, in words: taken, shown, kept over a
//! restart of fulcrum-control, and refused where it makes no sense.

mod support;

use clap::CommandFactory as _;
use fulcrum_cli::command::Arguments;
use fulcrum_model::file::reference;
use serde_json::{Value, json};
use support::Room;

/// What is there now is there after a restart, and saved, and named by `fulcrum diff`.
fn survives(room: &mut Room, listings: &[&str]) {
    let before: Vec<Value> = listings.iter().map(|words| room.json(words)).collect();
    room.fulcrum("save --to saved.toml");
    assert_eq!(room.fulcrum("diff saved.toml"), "nothing would change\n");
    room.restart();
    assert_eq!(listings.iter().map(|words| room.json(words)).collect::<Vec<_>>(), before);
    assert_eq!(room.fulcrum("diff saved.toml"), "nothing would change\n");
}

#[test]
fn a_service_has_every_property_of_ipvs_and_more() {
    let mut room = Room::running();
    room.fulcrum(
        "service add udp 172.16.100.9:5060 --scheduler mh --scheduler-flags mh-port,flag-1 --one-packet \
         --persistent 60 --prefix 24 --persistence-engine sip --timeout udp=30",
    );
    room.fulcrum(
        "service add tcp 172.16.100.9:443 --local-pool inside --client-address proxy-v2 --mss 1400 \
         --timeout tcp-established=7200 --timeout tcp-syn-recv=10",
    );
    room.fulcrum("service add sctp 172.16.100.9:3868 --scheduler sh --scheduler-flags sh-port");
    room.fulcrum("service add tcp [2001:db8::9]:80 --persistent 300 --netmask 64");
    room.fulcrum("service add fwm 10 --persistent 300");
    room.fulcrum("service add fwm6 0x1f");
    let sip = room.json("service show udp 172.16.100.9:5060");
    let expected = json!({
        "scheduler": "mh", "scheduler_flags": ["mh-fallback", "mh-port"], "one_packet": true, "persistent": 60,
        "netmask": "255.255.255.0", "persistence_engine": "sip", "mss": null, "timeouts": { "udp": 30 },
    });
    for (property, value) in expected.as_object().unwrap() {
        assert_eq!(&sip[property], value, "{property}");
    }
    assert_eq!(
        room.fulcrum("service show udp 172.16.100.9:5060").lines().take(7).collect::<Vec<_>>(),
        [
            "service          udp 172.16.100.9:5060",
            "scheduler        mh",
            "flags            mh-fallback mh-port",
            "one packet       each datagram is scheduled anew",
            "persistent       60 s under 255.255.255.0 by sip",
            "time-outs        udp 30 s",
            "",
        ]
    );
    let at = |room: &Room, at: usize| room.json("service list")[at].clone();
    assert_eq!(
        [&at(&room, 2)["client_address"], &at(&room, 2)["timeouts"]["tcp-established"]],
        [&json!("proxy-v2"), &json!(7200)]
    );
    assert_eq!([&at(&room, 4)["family"], &at(&room, 4)["netmask"]], [&json!("ipv6"), &json!("64")]);
    assert_eq!(
        [&at(&room, 5)["mark"], &at(&room, 5)["address"], &at(&room, 5)["family"]],
        [&json!(10), &Value::Null, &json!("ipv4")]
    );
    assert_eq!([&at(&room, 6)["mark"], &at(&room, 6)["family"]], [&json!(31), &json!("ipv6")]);

    // An edit keeps what it does not name, and takes away what is named none.
    room.fulcrum("service edit udp 172.16.100.9:5060 --persistence-engine none --timeout udp=default");
    let sip = room.json("service show udp 172.16.100.9:5060");
    assert_eq!(
        [&sip["persistence_engine"], &sip["mss"], &sip["timeouts"]],
        [&Value::Null, &Value::Null, &json!({})]
    );
    assert_eq!(
        [&sip["persistent"], &sip["one_packet"], &sip["scheduler_flags"][1]],
        [&json!(60), &json!(true), &json!("mh-port")]
    );
    room.fulcrum("service edit udp 172.16.100.9:5060 --one-packet=no --scheduler-flags none");
    let sip = room.json("service show udp 172.16.100.9:5060");
    assert_eq!([&sip["one_packet"], &sip["scheduler_flags"]], [&json!(false), &json!([])]);
    room.fulcrum("service edit tcp 172.16.100.9:443 --client-address toa --mss 1360");
    assert_eq!([&at(&room, 2)["client_address"], &at(&room, 2)["mss"]], [&json!("toa"), &json!(1360)]);
    survives(&mut room, &["service list"]);
    room.fulcrum("service edit tcp 172.16.100.9:443 --client-address none --mss 0");
    assert_eq!([&at(&room, 2)["client_address"], &at(&room, 2)["mss"]], [&json!("none"), &Value::Null]);
    room.fulcrum("service delete fwm6 31");
    assert_eq!(room.json("service list").as_array().unwrap().len(), 6);
}

#[test]
fn a_server_has_tunnels_and_thresholds() {
    let mut room = Room::running();
    room.fulcrum("service add tcp 172.16.100.9:81");
    room.fulcrum(
        "server add tcp 172.16.100.9:81 192.168.20.8 --forward tun --upper-threshold 90 --lower-threshold 70",
    );
    room.fulcrum("server add tcp 172.16.100.9:81 192.168.20.9 --forward tun --tunnel gue --tunnel-port 6080 --tunnel-checksum remcsum");
    room.fulcrum("service add fwm 10");
    room.fulcrum("server add fwm 10 192.168.20.9 --forward nat");
    let server = |at: usize| room.json("server list tcp 172.16.100.9:81")[at].clone();
    assert_eq!([&server(0)["tunnel"], &server(0)["upper_threshold"]], [&json!("ipip"), &json!(90)]);
    assert_eq!(server(1)["tunnel"], "gue:6080 remcsum");
    assert!(room.fulcrum("server list").contains("  tun gue:6080 remcsum  1 "));
    assert_eq!(
        [&room.json("server list fwm 10")[0]["port"], &room.json("server list fwm 10")[0]["tunnel"]],
        [&json!(0), &Value::Null]
    );
    room.fulcrum("server edit tcp 172.16.100.9:81 192.168.20.9 --tunnel-port 6081");
    assert_eq!(server(1)["tunnel"], "gue:6081 remcsum");
    room.fulcrum("server edit tcp 172.16.100.9:81 192.168.20.9 --tunnel gre");
    assert_eq!(server(1)["tunnel"], "gre");
    room.fulcrum("server edit tcp 172.16.100.9:81 192.168.20.9 --tunnel-checksum csum");
    assert_eq!(server(1)["tunnel"], "gre csum");
    survives(&mut room, &["server list"]);
    room.fulcrum("server edit tcp 172.16.100.9:81 192.168.20.9 --forward dr");
    assert_eq!(room.json("server list tcp 172.16.100.9:81")[1]["tunnel"], Value::Null);
}

#[test]
fn rules_mark_packets_in_their_order() {
    let mut room = Room::running();
    room.fulcrum("mark add 10 --protocol tcp --to 172.16.100.9 --ports 80,443");
    room.fulcrum(
        "mark add 0x10/0xf0 --protocol udp --from 2001:db8::/32 --from-ports 1024-65535 --interface lan",
    );
    room.fulcrum("mark add 7 --before 1");
    assert_eq!(
        room.fulcrum("mark list"),
        "NUMBER  MARK       FAMILY  PROTOCOL  FROM           FROM-PORTS  TO               PORTS   INTERFACE\n\
         1       7          -       -         -              -           -                -       -\n\
         2       10         -       tcp       -              -           172.16.100.9/32  80 443  -\n\
         3       0x10/0xf0  -       udp       2001:db8::/32  1024-65535  -                -       lan\n"
    );
    assert_eq!(
        room.json("mark list")[1],
        json!({
            "number": 2, "family": null, "protocol": "tcp", "from": null, "from_ports": [], "to": "172.16.100.9/32",
            "ports": ["80", "443"], "interface": null, "mark": 10, "mask": u32::MAX,
        })
    );
    survives(&mut room, &["mark list"]);
    room.fulcrum("mark delete 1");
    assert_eq!(room.json("mark list")[0]["mark"], 10);
    assert!(room.fulcrum("diff fulcrum.toml").contains("mark"));
    room.fulcrum("mark clear");
    assert_eq!(room.json("mark list"), json!([]));
}

#[test]
fn timeouts_and_settings_are_listed_with_their_defaults_and_set() {
    let mut room = Room::running();
    assert!(room.fulcrum("timeout list").contains("\ntcp-established   900      900\n"));
    room.fulcrum("timeout set tcp-established=3600 sctp-init1=9 tcp-syn-recv=20");
    room.fulcrum("timeout set sctp-init1=default");
    let timeouts = room.json("timeout list");
    let seconds = |name: &str| {
        timeouts.as_array().unwrap().iter().find(|row| row["state"] == name).unwrap()["seconds"].clone()
    };
    assert_eq!(["tcp-established", "sctp-init1", "tcp-syn-recv", "udp"].map(seconds), [3600, 4, 20, 300]);

    room.fulcrum("set net.ipv4.vs.drop_entry=1 sloppy_tcp=1 conntrack=0");
    assert_eq!(
        room.json("settings sloppy_tcp"),
        json!([{
            "name": "sloppy_tcp", "value": "1", "default": "0", "fixed": false,
            "meaning": "Whether a segment other than SYN (never RST) may open a session.",
        }])
    );
    let all = room.fulcrum("settings");
    assert!(
        all.lines().any(|line| line.starts_with("sync_threshold ") && line.contains("Cannot be changed: ")),
        "{all}"
    );
    survives(&mut room, &["timeout list", "settings"]);
    room.fulcrum("set drop_entry=default");
    assert_eq!(room.json("settings drop_entry")[0]["value"], "0");
}

#[test]
fn what_makes_no_sense_is_refused_and_says_what_would() {
    let room = Room::running();
    room.fulcrum("service add fwm 10");
    let before = room.fulcrum("save");
    let cases = [
        (
            2,
            "service add tcp 172.16.100.9:81 --scheduler rr --scheduler-flags sh-port",
            "scheduler rr has no flag `sh-port`; known: flag-1",
        ),
        (2, "service add tcp 172.16.100.9:81 --timeout tcp=3", "there is no state `tcp`; known: tcp-none, "),
        (
            2,
            "service add tcp 172.16.100.9:81 --timeout tcp-close=soon",
            "`soon` is neither seconds nor `default`",
        ),
        (2, "service add tcp 172.16.100.9:81 --netmask 255.0.255.0", "netmask 255.0.255.0 has holes"),
        (
            2,
            "service add tcp 172.16.100.9:81 --client-address xff",
            "[possible values: none, toa, proxy-v1, proxy-v2]",
        ),
        (1, "service add tcp 172.16.100.9:81 --one-packet", "UDP"),
        (
            1,
            "service add tcp 172.16.100.9:81 --persistence-engine xff",
            "there is no persistence engine `xff`",
        ),
        (1, "service add tcp 172.16.100.9:81 --mss 10", "mss"),
        (1, "service add fwm 0", "mark"),
        (1, "service add tcp 172.16.100.9:81 --persistent 60 --prefix 33", "33"),
        (2, "server add fwm 10 192.168.20.9 --forward tun --tunnel gue", "needs the server's --tunnel-port"),
        (2, "server add fwm 10 192.168.20.9 --forward tun --tunnel-port 6080", "add --tunnel gue"),
        (1, "server add fwm 10 192.168.20.9 --forward nat --tunnel gre", "tun"),
        (
            1,
            "server add fwm 10 192.168.20.9 --forward tun --tunnel-source local",
            "has tunnel-source `local` but service fwm 10 has no local address",
        ),
        (1, "server add fwm 10 192.168.20.9 --forward tun --tunnel-checksum csum", "checksum"),
        (
            1,
            "server add fwm 10 192.168.20.9 --forward nat --lower-threshold 3",
            "lower threshold 3 is above the upper one",
        ),
        (2, "mark add ten", "`ten` is no mark such as 10 or 0x1f"),
        (2, "mark add 10 --ports http", "`http` is neither a port nor a range of ports"),
        (1, "mark add 10 --ports 80", "protocol"),
        (1, "mark add 10 --interface nowhere", "there is no interface `nowhere`"),
        (1, "mark add 10 --to 172.16.100.9 --from 2001:db8::1", "famil"),
        (1, "mark add 10 --before 9", "there is no mark rule number 9"),
        (1, "mark delete 1", "there is no rule 1; `fulcrum mark list` numbers them"),
        (1, "timeout set udp=0", "out of range"),
        (1, "timeout set udp=5 tcp-close=4000000", "tcp-close"),
        (1, "set sloppy_tcp=1 best=1", "there is no setting `best`; known: "),
        (1, "set conntrack=1", "conntrack can only be 0 here: there is no netfilter connection tracking"),
        (1, "set drop_entry=9", "drop_entry of 9 is out of range; 0 to 3"),
        (1, "settings best", "there is no setting `best`"),
        (2, "set sloppy_tcp", "such as expire_nodest_conn=1"),
    ];
    for (code, words, text) in cases {
        let said = room.refused(code, words);
        assert!(said.contains(text), "fulcrum {words}: {said}");
    }
    assert_eq!(room.fulcrum("save"), before);
}

#[test]
fn how_a_vip_is_announced_is_said_changed_and_kept() {
    let mut room = Room::running();
    room.fulcrum("service add tcp 10.77.0.9:80 --announce healthy --announce-on dummy0 --announce-after 30");
    room.fulcrum("service add tcp 10.77.0.9:443 --announce always");
    let said = |room: &Room, which: &str| {
        let row = room.json(&format!("service show tcp 10.77.0.9:{which}"));
        json!([row["announce"], row["announce_on"], row["announce_after"]])
    };
    assert_eq!(said(&room, "80"), json!(["healthy", "dummy0", 30]));
    assert_eq!(said(&room, "443"), json!(["always", null, 5]));
    let shown = room.fulcrum("service show tcp 10.77.0.9:80");
    assert!(shown.contains("announced        healthy on dummy0, after 30 s\n"), "{shown}");
    // An edit keeps what it does not name.
    room.fulcrum("service edit tcp 10.77.0.9:80 --announce-after 0 --scheduler rr");
    assert_eq!(said(&room, "80"), json!(["healthy", "dummy0", 0]));
    room.fulcrum("service edit tcp 10.77.0.9:80 --announce-on none");
    survives(&mut room, &["service list"]);
    room.fulcrum("service edit tcp 10.77.0.9:80 --announce never");
    assert_eq!(said(&room, "80"), json!(["never", null, 0]));

    room.fulcrum("service add fwm 10");
    for (code, words, why) in [
        (2, "tcp 10.77.0.9:80 --announce sometimes", "[possible values: never, healthy, always]"),
        (1, "tcp 10.77.0.9:80 --announce-on a/b", "`a/b` is not the name of an interface of the host"),
        (1, "tcp 10.77.0.9:80 --announce-after 3601", "out of range; 0 to 3600"),
        (1, "fwm 10 --announce always", "a service by mark has no VIP"),
    ] {
        let said = room.refused(code, &format!("service edit {words}"));
        assert!(said.contains(why), "{words}: {said}");
    }
}

/// What the file says of services and servers, the command line can say.
#[test]
fn every_key_of_services_and_servers_has_an_option() {
    // Names of the thing itself, and what has commands of its own.
    const OTHERWISE: [&str; 6] = ["address", "protocol", "mark", "family", "admin", "drain-until"];
    // A table of the file, a command, and what the options begin with.
    let pairs = [
        ("[[service]]", "service", ""),
        ("[[service.server]]", "server", ""),
        ("[service.sorry-server]", "service", "sorry-"),
    ];
    // Of a server that answers for all others alone these mean nothing.
    let alone = ["weight", "upper-threshold", "lower-threshold"];
    let tree = Arguments::command();
    for (title, noun, before) in pairs {
        let noun = tree.find_subcommand(noun).unwrap();
        let tables = reference::tables();
        let table = tables.iter().find(|table| table.title == title).unwrap();
        for verb in ["add", "edit"] {
            let verb = noun.find_subcommand(verb).unwrap();
            for key in table.keys.iter().map(|key| key.name).filter(|key| !OTHERWISE.contains(key)) {
                if !before.is_empty() && alone.contains(&key) {
                    continue;
                }
                let one = match key {
                    "local-addresses" if verb.get_name() == "edit" => "add-local-address".to_owned(),
                    "local-addresses" => "local-address".to_owned(),
                    key => format!("{before}{key}"),
                };
                let option = verb.get_arguments().any(|argument| argument.get_long() == Some(&one));
                assert!(
                    option,
                    "{title} has {key}; `fulcrum {} {}` has no --{one}",
                    noun.get_name(),
                    verb.get_name()
                );
            }
        }
    }
}
