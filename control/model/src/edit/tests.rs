//! Edits in ipvsadm's words.

use super::*;
use crate::file::Config;
use crate::ipvsadm::edits;
use crate::state::{CheckKind, Family, Forward};

const POOL: &str = "[[port]]\nname = \"p\"\ndevice = \"net_null0\"\n\
    [[interface]]\nname = \"i\"\nport = \"p\"\naddresses = [\"10.0.0.1/24\"]\n\
    [[local-pool]]\nname = \"l\"\ninterface = \"i\"\naddresses = [\"10.0.0.200\"]\n";

fn state(lines: &[&str]) -> State {
    let mut state = Config::parse("f", POOL).unwrap().state;
    state.apply_all(&all(lines)).unwrap();
    state
}

fn all(lines: &[&str]) -> Vec<Edit> {
    lines.iter().flat_map(|line| edits(line).unwrap()).collect()
}

#[test]
fn an_update_keeps_what_ipvsadm_does_not_know() {
    let mut state = state(&[
        "-A -t 10.9.0.1:80 -s rr -p 60 --local-pool l --vip-interface i",
        "-P -t 10.9.0.1:80 -z 10.0.0.201",
        "-a -t 10.9.0.1:80 -r 10.1.0.1:80 -b",
    ]);
    let before = state.services[0].clone();
    state.apply_all(&all(&["-E -t 10.9.0.1:80 -s wrr"])).unwrap();
    let after = Service { scheduler: "wrr".into(), persistent: None, ..before };
    assert_eq!(state.services, [after]);
}

#[test]
fn within_a_transaction_the_local_address_may_come_last() {
    let mut state = state(&["-A -t 10.9.0.1:80"]);
    let before = state.clone();
    let server = "-a -t 10.9.0.1:80 -r 10.1.0.1:80 -b";
    let (at, error) = state.apply_all(&all(&["-A -t 10.9.0.2:80", server])).unwrap_err();
    assert_eq!((at, error.errno()), (1, 22));
    assert_eq!(state, before);
    state.apply_all(&all(&[server, "-P -t 10.9.0.1:80 -z 10.0.0.201"])).unwrap();
    let last = all(&["-Q -t 10.9.0.1:80 -z 10.0.0.201"]);
    assert!(state.apply(&last[0]).is_err());
}

#[test]
fn addresses_have_one_meaning() {
    let mut state = state(&["-A -t 10.9.0.1:80", "-P -t 10.9.0.1:80 -z 10.0.0.201"]);
    for line in [
        "-A -t 10.0.0.200:80",                    // a pool's
        "-A -t 10.0.0.201:80",                    // a service's own
        "-P -t 10.9.0.1:80 -z 10.0.0.1",          // an interface's
        "-P -t 10.9.0.1:80 -z 10.9.0.1",          // a VIP
        "-A -t 10.9.0.3:80 --local-pool missing", // nobody's
    ] {
        assert!(matches!(state.apply_all(&all(&[line])), Err((0, EditError::Invalid(_)))), "{line}");
    }
    // Pools, and services' own addresses, may share.
    state.apply_all(&all(&["-P -t 10.9.0.1:80 -z 10.0.0.200"])).unwrap();
}

#[test]
fn a_pool_in_use_stays() {
    let mut state = state(&["-A -t 10.9.0.1:80 --local-pool l"]);
    let delete = Edit::DeleteLocalPool("l".into());
    assert!(state.apply(&delete).is_err());
    state.apply_all(&[Edit::SetServicePool(state.services[0].key, None), delete]).unwrap();
    assert!(state.local_pools.is_empty());
}

#[test]
fn services_keep_the_order_of_their_addition_within_a_transaction() {
    let vips = |state: &State| -> Vec<String> {
        state.services.iter().map(|s| s.key.address().unwrap().to_string()).collect()
    };
    let mut state = state(&["-A -t 10.9.0.1:80", "-A -t 10.9.0.2:80", "-A -t 10.9.0.3:80"]);
    state
        .apply_all(&all(&[
            "-D -t 10.9.0.2:80",
            "-A -t 10.9.0.4:80",
            "-D -t 10.9.0.1:80",
            "-A -t 10.9.0.2:80 -s rr",
            "-E -t 10.9.0.3:80 -s sh",
        ]))
        .unwrap();
    assert_eq!(vips(&state), ["10.9.0.3", "10.9.0.4", "10.9.0.2"]);
    assert_eq!(state.services[2].scheduler, "rr");
    assert!(matches!(state.apply_all(&all(&["-D -t 10.9.0.2:80"; 2])), Err((1, EditError::NoService(_)))));
    state.apply_all(&all(&["-C", "-A -t 10.9.0.2:80"])).unwrap();
    assert_eq!(vips(&state), ["10.9.0.2"]);
}

/// What edits within a transaction know of each other, they know of earlier transactions.
#[test]
fn one_transaction_does_what_its_edits_do_one_by_one() {
    let mut number = 7u32;
    let mut roll = move |sides: u32| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (number >> 16) % sides
    };
    for _ in 0..300 {
        let mut state = State::default();
        let mut alone = State::default();
        let lines: Vec<String> = (0..12)
            .map(|_| {
                let (service, own) = (format!("10.9.0.{}:80", roll(3)), format!("10.9.0.{}", roll(4)));
                match roll(7) {
                    0 => format!("-D -t {service}"),
                    1 => format!("-a -t {service} -r 10.1.0.1:80 -m"),
                    2 => format!("-d -t {service} -r 10.1.0.1:80"),
                    3 => format!("-P -t {service} -z {own}"),
                    4 => format!("-Q -t {service} -z {own}"),
                    _ => format!("-A -t {service}"),
                }
            })
            .collect();
        let asked: Vec<Edit> = lines.iter().flat_map(|line| edits(line).unwrap()).collect();
        let mut kept = Vec::new();
        for edit in asked {
            let together: Vec<Edit> = kept.iter().chain([&edit]).cloned().collect();
            let mut now = State::default();
            let whole = now.apply_all(&together).map_err(|(_, error)| error);
            assert_eq!(whole, alone.apply(&edit), "{lines:?}");
            if whole.is_ok() {
                (state, kept) = (now, together);
            }
            assert_eq!(state, alone, "{lines:?}");
        }
    }
}

#[test]
fn weight_health_and_admin_state_do_not_touch_each_other() {
    let mut state = state(&["-A -t 10.9.0.1:80", "-a -t 10.9.0.1:80 -r 10.1.0.1:80 -m -w 3"]);
    let (service, server) = (state.services[0].key, state.services[0].servers[0].key);
    let health = ServerHealth { checks: Some(vec![]), port: Some(81), ..ServerHealth::default() };
    let drain = Admin::Drain { until: Some(1_900_000_000) };
    let of_service = ServiceHealth { quorum: 4, hysteresis: 3, slow_start: 9, ..ServiceHealth::default() };
    let admin = |admin| Edit::SetServerAdmin {
        service: Some(service),
        address: server.address,
        port: Some(server.port),
        admin,
    };
    state
        .apply_all(&[
            Edit::SetServerHealth(service, server, health.clone()),
            Edit::SetServiceHealth(service, of_service.clone()),
            admin(drain),
        ])
        .unwrap();
    state.apply_all(&all(&["-e -t 10.9.0.1:80 -r 10.1.0.1:80 -m -w 9", "-E -t 10.9.0.1:80 -s rr"])).unwrap();
    let now = &state.services[0];
    assert_eq!((now.servers[0].weight, &now.servers[0].health, now.servers[0].admin), (9, &health, drain));
    assert_eq!((now.scheduler.as_str(), &now.health), ("rr", &of_service));
    state.apply(&admin(Admin::Enabled)).unwrap();
    assert_eq!(
        (state.services[0].servers[0].weight, state.services[0].servers[0].admin),
        (9, Admin::Enabled)
    );
}

#[test]
fn an_admin_state_is_of_a_server_in_one_service_or_in_all() {
    let mut state = state(&[
        "-A -t 10.9.0.1:80",
        "-a -t 10.9.0.1:80 -r 10.1.0.1:80 -m",
        "-a -t 10.9.0.1:80 -r 10.1.0.1:81 -m",
        "-A -t 10.9.0.2:80",
        "-a -t 10.9.0.2:80 -r 10.1.0.1:80 -m",
        "-a -t 10.9.0.2:80 -r 10.1.0.2:80 -m",
    ]);
    let first = state.services[0].key;
    let set = |state: &mut State, service, last, port, admin| {
        state.apply(&Edit::SetServerAdmin { service, address: [10, 1, 0, last].into(), port, admin })
    };
    let disabled = |state: &State| -> Vec<bool> {
        state.services.iter().flat_map(|s| &s.servers).map(|s| s.admin == Admin::Disabled).collect()
    };
    set(&mut state, Some(first), 1, Some(80), Admin::Disabled).unwrap();
    assert_eq!(disabled(&state), [true, false, false, false]);
    set(&mut state, None, 1, Some(80), Admin::Disabled).unwrap();
    assert_eq!(disabled(&state), [true, false, true, false]);
    set(&mut state, None, 1, None, Admin::Disabled).unwrap();
    assert_eq!(disabled(&state), [true, true, true, false]);
    let before = state.clone();
    let refused = [
        (set(&mut state, Some(first), 2, Some(80), Admin::Disabled), "service tcp 10.9.0.1:80 has no server"),
        (set(&mut state, Some(first), 2, None, Admin::Disabled), "no server 10.1.0.2 of service"),
        (set(&mut state, None, 3, None, Admin::Disabled), "there is no server 10.1.0.3 in any service"),
        (set(&mut state, None, 1, None, Admin::Drain { until: Some(u64::MAX) }), "drain-until is later"),
    ];
    for (refused, why) in refused {
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(state, before);
}

#[test]
fn a_sorry_server_is_judged_like_a_server_and_is_none_of_them() {
    let mut state = state(&["-A -t 10.9.0.1:80", "-a -t 10.9.0.1:80 -r 10.1.0.1:80 -m"]);
    let key = state.services[0].key;
    let sorry = |last: u8, forward| ServiceHealth {
        sorry_server: Some(Box::new(Server::new(
            ServerKey { address: [10, 1, 0, last].into(), port: 80 },
            forward,
        ))),
        ..ServiceHealth::default()
    };
    for (health, why) in [
        (sorry(1, Forward::Nat), "is a server of the service already"),
        (sorry(9, Forward::FullNat), "has no local address"),
    ] {
        let said = state.apply(&Edit::SetServiceHealth(key, health)).unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    }
    state.apply(&Edit::SetServiceHealth(key, sorry(9, Forward::Nat))).unwrap();
    assert!(state.apply_all(&all(&["-a -t 10.9.0.1:80 -r 10.1.0.9:80 -m"])).is_err());
    let new = Service {
        health: sorry(9, Forward::FullNat),
        ..Service::new(ServiceKey::Mark { family: Family::V4, mark: 1 }, "rr")
    };
    assert!(state.apply(&Edit::AddService(new)).is_err());
}

#[test]
fn a_check_in_use_stays_and_is_known() {
    let mut state = state(&["-A -f 7", "-a -f 7 -r 10.1.0.1:0 -m", "-a -f 7 -r 10.1.0.2:80 -m"]);
    let (key, server) = (state.services[0].key, state.services[0].servers[1].key);
    let check = |port| Check { port, ..Check::new("web", CheckKind::Tcp) };
    let of_service = |names: &[&str]| {
        let checks = names.iter().map(|name| (*name).to_owned()).collect();
        Edit::SetServiceHealth(key, ServiceHealth { checks, ..ServiceHealth::default() })
    };
    let said = |state: &mut State, edits: &[Edit]| state.apply_all(edits).unwrap_err().1.to_string();
    assert!(
        said(&mut state, &[of_service(&["web"])]).contains("there is no check `web`; none is configured")
    );
    let new = [Edit::AddCheck(check(None)), of_service(&["web"])];
    assert!(
        said(&mut state, &new)
            .contains("server 10.1.0.1:0 keeps the clients' port, and check `web` has none")
    );
    let own = ServerHealth { checks: Some(vec!["web".into()]), ..ServerHealth::default() };
    state.apply_all(&[Edit::AddCheck(check(Some(80))), Edit::SetServerHealth(key, server, own)]).unwrap();
    assert!(said(&mut state, &[Edit::DeleteCheck("web".into())]).contains("is used by service fwm 7"));
    state.apply_all(&[of_service(&["web"])]).unwrap();
    assert!(said(&mut state, &[Edit::UpdateCheck(check(None))]).contains("keeps the clients' port"));
    let none = Edit::SetServerHealth(key, server, ServerHealth::default());
    state.apply_all(&[of_service(&[]), none, Edit::DeleteCheck("web".into())]).unwrap();
}

#[test]
fn an_override_outlives_its_service_and_makes_its_nat_servers_fullnat() {
    let mut state = state(&[]);
    let key = ServiceKey::new(crate::state::Protocol::Tcp, [10, 9, 0, 1].into(), 80);
    let lines = [
        "-A -t 10.9.0.1:80 -s rr",
        "-a -t 10.9.0.1:80 -r 10.1.0.1:80 -m",
        "-a -t 10.9.0.1:80 -r 10.1.0.2:80 -g",
    ];
    state.apply_all(&all(&lines)).unwrap();
    let bare = Override { full_nat: true, ..Override::new(key) };
    let refused = state.apply(&Edit::SetOverride(bare.clone())).unwrap_err();
    assert!(refused.to_string().contains("has no local address"), "{refused}");
    let over = Override { local_pool: Some("l".into()), ..bare };
    state.apply(&Edit::SetOverride(over.clone())).unwrap();
    for _ in 0..2 {
        let shaped = state.with_overrides();
        let forwards: Vec<_> = shaped.services[0].servers.iter().map(|server| server.forward).collect();
        assert_eq!(forwards, [Forward::FullNat, Forward::Dr]);
        assert_eq!(shaped.services[0].local_pool.as_deref(), Some("l"));
        assert_eq!(shaped.overrides, []);
        // What was asked for is still what it was.
        assert_eq!(state.services[0].servers[0].forward, Forward::Nat);
        state.apply(&Edit::DeleteService(key)).unwrap();
        state.apply_all(&all(&lines)).unwrap();
    }
    assert_eq!(state.overrides, [over]);
    assert!(validate::state(&state).is_empty());
    let text = crate::file::state_to_toml(&state);
    assert_eq!(Config::parse("f", &text).unwrap().state, state);
    let refused = state.apply(&Edit::DeleteLocalPool("l".into())).unwrap_err();
    assert!(refused.to_string().contains("is used by the override of service tcp 10.9.0.1:80"), "{refused}");
    state.apply(&Edit::DeleteOverride(key)).unwrap();
    assert!(matches!(state.apply(&Edit::DeleteOverride(key)), Err(EditError::Missing(_))));
}

#[test]
fn an_override_names_what_is_there() {
    let mut state = state(&[]);
    let key = ServiceKey::Mark { family: Family::V4, mark: 7 };
    for (over, wanted) in [
        (Override { local_pool: Some("x".into()), ..Override::new(key) }, "there is no local pool `x`"),
        (Override { interface: Some("x".into()), ..Override::new(key) }, "there is no interface `x`"),
        (Override { mss: Some(1), ..Override::new(key) }, "mss 1 is out of range"),
        (Override::new(ServiceKey::Mark { family: Family::V4, mark: 0 }), "mark 0 is that of packets"),
    ] {
        let refused = state.apply(&Edit::SetOverride(over)).unwrap_err();
        assert!(refused.to_string().starts_with(wanted), "{refused}");
    }
    assert_eq!(state.overrides, []);
}
