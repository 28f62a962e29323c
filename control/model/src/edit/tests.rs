//! Edits in ipvsadm's words.

use super::*;
use crate::file::Config;
use crate::ipvsadm::edits;

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
