//! Sessions made, found from both ends, ended.

use std::net::Ipv4Addr;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 11));

fn nat(vip: u8, client_port: u16) -> NewSession {
    NewSession {
        protocol: 6,
        forward: Forward::Nat,
        state: State::Tcp(tcp::State::None),
        client: (CLIENT, client_port),
        vip: (Ipv4Addr::new(10, 0, 0, vip).into(), 80),
        local: (CLIENT, client_port),
        server: (SERVER, 8000),
        destination: 0,
        control: NONE,
    }
}

fn reply(client_port: u16) -> Key {
    Key { protocol: 6, src: SERVER, sport: 8000, dst: CLIENT, dport: client_port }
}

#[test]
fn both_directions_find_the_session() {
    let mut sessions = Sessions::new(100, 1, 0);
    let id = sessions.insert(nat(100, 40001), 0).unwrap();
    let key = sessions.get(id).key_in(&sessions.ends(id));
    assert_eq!(sessions.find(key), Some((id, Direction::In)));
    assert_eq!(sessions.find(reply(40001)), Some((id, Direction::Out)));
    assert_eq!(sessions.find(reply(40002)), None);
    sessions.remove(id);
    assert_eq!((sessions.find(key), sessions.find(reply(40001)), sessions.len()), (None, None, 0));
}

#[test]
fn of_two_equal_reply_keys_the_newest_wins_and_the_older_comes_back() {
    let mut sessions = Sessions::new(100, 1, 0);
    let ids: Vec<_> = [100, 101, 102].map(|vip| sessions.insert(nat(vip, 1), 0).unwrap()).into();
    assert_eq!(sessions.find(reply(1)), Some((ids[2], Direction::Out)));
    sessions.remove(ids[1]);
    assert_eq!(sessions.find(reply(1)), Some((ids[2], Direction::Out)));
    sessions.remove(ids[2]);
    assert_eq!(sessions.find(reply(1)), Some((ids[0], Direction::Out)));
    sessions.remove(ids[0]);
    assert_eq!(sessions.find(reply(1)), None);
}

#[test]
fn a_full_table_refuses_and_slots_come_back() {
    let mut sessions = Sessions::new(3, 1, 0);
    let ids: Vec<_> = (1..=3).map(|port| sessions.insert(nat(100, port), 0).unwrap()).collect();
    assert_eq!(sessions.insert(nat(100, 9), 0), None);
    sessions.remove(ids[1]);
    assert_eq!(sessions.insert(nat(100, 9), 0), Some(ids[1]));
}

#[test]
fn sessions_expire_when_due_and_not_before() {
    let mut sessions = Sessions::new(10, 1, 0);
    let id = sessions.insert(nat(100, 1), 0).unwrap();
    sessions.get_mut(id).set_timeout(900 * SECOND);
    sessions.get_mut(id).touch(0);
    for second in 0..900 {
        assert_eq!(sessions.next_expired(second * SECOND, &mut 100), None, "second {second}");
    }
    let ended = (0..10).find_map(|tick| sessions.next_expired((900 + tick) * SECOND, &mut 100));
    assert_eq!(ended, Some(id));
}

#[test]
fn a_shortened_life_is_noticed() {
    let mut sessions = Sessions::new(10, 1, 0);
    let id = sessions.insert(nat(100, 1), 0).unwrap();
    sessions.get_mut(id).set_timeout(900 * SECOND);
    sessions.get_mut(id).touch(0);
    assert_eq!(sessions.next_expired(4 * SECOND, &mut 100), None);
    sessions.get_mut(id).set_timeout(10 * SECOND);
    sessions.get_mut(id).touch(5 * SECOND);
    sessions.requeue(id);
    assert_eq!(sessions.next_expired(45 * SECOND, &mut 100), Some(id));
}

#[test]
fn a_template_that_controls_sessions_lives_on_by_the_minute() {
    let mut sessions = Sessions::new(10, 1, 0);
    let template = NewSession { state: State::Template { assured: false }, ..nat(100, 0) };
    let template = sessions.insert(template, 0).unwrap();
    let id = sessions.insert(NewSession { control: template, ..nat(100, 1) }, 0).unwrap();
    assert!(!sessions.overdue(template, 100 * SECOND));
    assert_eq!(sessions.get(template).expires, 160 * SECOND);
    sessions.remove(id);
    assert!(sessions.overdue(template, 160 * SECOND));
}
