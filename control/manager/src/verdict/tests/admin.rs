//! What an operator wants of servers, beside what checks say of them.

use super::*;

#[test]
fn a_drained_server_gets_nothing_new_until_its_time_is_over() {
    let mut world = World::new("", &[1, 1]);
    world.hear(&[(1, Up), (2, Up)]);
    let until = world.now + Duration::from_secs(600);
    let seconds = until.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let said = world.admin(1, Admin::Drain { until: Some(seconds) });
    assert_eq!(said, ["server-draining 10.1.0.1:80: by the operator, until 2027-01-15T08:10:00Z"]);
    assert_eq!(world.held(), [(1, 0), (2, 1)]);
    assert_eq!(effective(&world.desired, &world.memory, world.now).1, Some(until));
    world.now = until;
    assert_eq!(world.look(), ["server-disabled 10.1.0.1:80: the time to drain is over"]);
    assert_eq!(world.held(), [(2, 1)]);
    assert_eq!(effective(&world.desired, &world.memory, world.now).1, None);
    assert_eq!(world.admin(1, Admin::Enabled), ["server-enabled 10.1.0.1:80: by the operator"]);
    assert_eq!(world.held(), [(1, 1), (2, 1)]);
}

#[test]
fn admin_states_do_without_checks_and_are_told_once() {
    let text = format!("{HEAD}{}", servers(&[1, 1]));
    let mut world = World::of(Config::parse("test", &text).unwrap().state);
    assert_eq!(world.admin(2, Admin::Disabled), ["server-disabled 10.1.0.2:80: by the operator"]);
    assert_eq!(world.held(), [(1, 1)]);
    assert!(world.look().is_empty());
    let mut world = world.restarted();
    assert!(world.look().is_empty());
    assert_eq!(world.held(), [(1, 1)]);
    assert_eq!(world.admin(2, Admin::Enabled), ["server-enabled 10.1.0.2:80: by the operator"]);
    assert_eq!(world.held(), [(1, 1), (2, 1)]);
    assert!(world.memory.services.is_empty());
    // New in another process: what the operator did before is no news.
    world.admin(2, Admin::Disabled);
    let mut other = World { memory: Memory::default(), ..world };
    assert!(other.look().is_empty());
}

#[test]
fn a_server_that_is_enabled_again_grows_too() {
    let mut world = World::new("slow-start = 10", &[100, 100]);
    world.hear(&[(1, Up), (2, Up)]);
    world.admin(2, Admin::Disabled);
    world.admin(2, Admin::Enabled);
    assert_eq!(world.held(), [(1, 100), (2, 10)]);
    world.admin(2, Admin::Drain { until: None });
    assert_eq!(world.held(), [(1, 100), (2, 0)]);
}

#[test]
fn health_and_admin_state_say_together_what_is_left() {
    let mut world = World::new("", &[1, 1, 1]);
    world.hear(&[(1, Up), (2, Up), (3, Down)]);
    world.admin(3, Admin::Drain { until: None });
    world.admin(2, Admin::Disabled);
    assert_eq!(world.held(), [(1, 1)]);
    // Enabled again it is still down; up again it is still disabled.
    world.admin(3, Admin::Enabled);
    world.hear(&[(2, Down)]);
    world.hear(&[(2, Up)]);
    assert_eq!(world.held(), [(1, 1)]);
    world.hear(&[(3, Up)]);
    world.admin(2, Admin::Enabled);
    assert_eq!(world.held(), [(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn a_drained_server_stays_beside_the_sorry_server() {
    let mut world = World::new(sorry(), &[1, 1]);
    world.hear(&[(1, Up), (2, Up)]);
    world.admin(1, Admin::Drain { until: None });
    world.hear(&[(2, Down)]);
    assert_eq!(world.held(), [(1, 0), (99, 1)], "its sessions go on");
}
