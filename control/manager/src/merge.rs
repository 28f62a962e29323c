//! Three-way merge of states: the configuration file changed while run-time changes exist.
//!
//! Objects are known by their names or addresses. An object that the file changed, added or took away since it
//! was last read is as the file says; every other object is as it was at run time.

use std::collections::HashMap;
use std::hash::Hash;

use fulcrum_model::{Admin, Server, Service, State};

/// What `run_time`, based on a file that said `old`, becomes now that the file says `new`.
pub fn merge(old: &State, run_time: &State, new: &State) -> State {
    State {
        ports: list(&old.ports, &run_time.ports, &new.ports, |port| port.name.clone()),
        interfaces: list(&old.interfaces, &run_time.interfaces, &new.interfaces, |i| i.name.clone()),
        routes: list(&old.routes, &run_time.routes, &new.routes, |route| route.to),
        neighbours: list(&old.neighbours, &run_time.neighbours, &new.neighbours, |neighbour| {
            (neighbour.interface.clone(), neighbour.address)
        }),
        local_pools: list(&old.local_pools, &run_time.local_pools, &new.local_pools, |p| p.name.clone()),
        checks: list(&old.checks, &run_time.checks, &new.checks, |check| check.name.clone()),
        overrides: list(&old.overrides, &run_time.overrides, &new.overrides, |over| over.service),
        services: lists(&old.services, &run_time.services, &new.services, |service| service.key, service),
        // The order of the rules is their meaning, so they are one thing.
        marks: one(&old.marks, &run_time.marks, &new.marks).clone(),
        snat: one(&old.snat, &run_time.snat, &new.snat).clone(),
        timeouts: one(&old.timeouts, &run_time.timeouts, &new.timeouts).clone(),
        settings: one(&old.settings, &run_time.settings, &new.settings).clone(),
        exception: one(&old.exception, &run_time.exception, &new.exception).clone(),
    }
}

/// A thing as the file says if the file changed it, else as at run time.
fn one<'a, T: PartialEq + ?Sized>(old: &T, run_time: &'a T, new: &'a T) -> &'a T {
    if new == old { run_time } else { new }
}

/// A service's own settings are one thing, each of its servers is another.
fn service(old: Option<&Service>, run_time: Option<&Service>, new: Option<&Service>) -> Option<Service> {
    let (Some(run_time), Some(new)) = (run_time, new) else {
        return one(&old, &run_time, &new).cloned();
    };
    let head = |service: &Service| Service { servers: Vec::new(), ..service.clone() };
    let none: &[Server] = &[];
    let old_servers = old.map_or(none, |old| &old.servers);
    let servers = lists(old_servers, &run_time.servers, &new.servers, |s| s.key, server);
    let head = one(&old.map(head), &Some(head(run_time)), &Some(head(new))).clone()?;
    Some(Service { servers, ..head })
}

/// What the operator wants of a server is one thing, the rest of it is another.
fn server(old: Option<&Server>, run_time: Option<&Server>, new: Option<&Server>) -> Option<Server> {
    let (Some(run_time), Some(new)) = (run_time, new) else {
        return one(&old, &run_time, &new).cloned();
    };
    let rest = |server: &Server| Server { admin: Admin::Enabled, ..server.clone() };
    let admin = *one(&old.map_or(Admin::Enabled, |old| old.admin), &run_time.admin, &new.admin);
    let rest = one(&old.map(rest), &Some(rest(run_time)), &Some(rest(new))).clone()?;
    Some(Server { admin, ..rest })
}

fn list<T, K>(old: &[T], run_time: &[T], new: &[T], key: impl Fn(&T) -> K) -> Vec<T>
where
    T: Clone + PartialEq,
    K: Eq + Hash,
{
    lists(old, run_time, new, key, |old, run_time, new| one(&old, &run_time, &new).cloned())
}

/// Merges lists of things with keys. The file's order comes first, what exists at run time only follows.
fn lists<T, K>(
    old: &[T],
    run_time: &[T],
    new: &[T],
    key: impl Fn(&T) -> K,
    combine: impl Fn(Option<&T>, Option<&T>, Option<&T>) -> Option<T>,
) -> Vec<T>
where
    T: Clone + PartialEq,
    K: Eq + Hash,
{
    if new == old {
        return run_time.to_vec();
    }
    if run_time == old {
        return new.to_vec();
    }
    let by_key = |list: &'_ [T]| -> HashMap<K, usize> {
        list.iter().enumerate().map(|(at, thing)| (key(thing), at)).collect()
    };
    let (old_at, run_time_at, new_at) = (by_key(old), by_key(run_time), by_key(new));
    let only_run_time = run_time.iter().filter(|thing| !new_at.contains_key(&key(thing)));
    new.iter()
        .chain(only_run_time)
        .filter_map(|thing| {
            let key = key(thing);
            combine(
                old_at.get(&key).map(|at| &old[*at]),
                run_time_at.get(&key).map(|at| &run_time[*at]),
                new_at.get(&key).map(|at| &new[*at]),
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use fulcrum_model::file::Config;

    use super::*;

    type ServiceText<'a> = (&'a str, &'a str, &'a [(&'a str, u32)]);

    fn state(services: &[ServiceText<'_>]) -> State {
        let mut text = String::new();
        for (address, scheduler, servers) in services {
            text += &format!(
                "[[service]]\naddress = \"{address}\"\nprotocol = \"tcp\"\nscheduler = \"{scheduler}\"\n"
            );
            for (server, weight) in *servers {
                text += &format!(
                    "[[service.server]]\naddress = \"{server}\"\nforward = \"nat\"\nweight = {weight}\n"
                );
            }
        }
        Config::parse("test", &text).unwrap().state
    }

    #[test]
    fn without_changes_of_the_file_run_time_stays() {
        let file = state(&[("10.0.0.1:80", "rr", &[("10.0.1.1:80", 1)])]);
        let run_time = state(&[("10.0.0.2:80", "rr", &[]), ("10.0.0.1:80", "wlc", &[])]);
        assert_eq!(merge(&file, &run_time, &file), run_time);
    }

    #[test]
    fn without_run_time_changes_the_file_is_all() {
        let old = state(&[("10.0.0.1:80", "rr", &[])]);
        let new = state(&[("10.0.0.3:80", "rr", &[]), ("10.0.0.1:80", "wlc", &[("10.0.1.1:80", 2)])]);
        assert_eq!(merge(&old, &old, &new), new);
        assert_eq!(merge(&State::default(), &State::default(), &new), new);
    }

    #[test]
    fn what_the_file_changed_is_as_the_file_says_and_the_rest_as_at_run_time() {
        let old = state(&[
            ("10.0.0.1:80", "rr", &[("10.0.1.1:80", 1), ("10.0.1.2:80", 1)]),
            ("10.0.0.2:80", "rr", &[]),
            ("10.0.0.3:80", "rr", &[]),
        ]);
        // At run time: a scheduler, a weight and a server changed, a service taken away, one added.
        let run_time = state(&[
            ("10.0.0.1:80", "wlc", &[("10.0.1.1:80", 0), ("10.0.1.2:80", 7), ("10.0.1.9:80", 1)]),
            ("10.0.0.3:80", "rr", &[]),
            ("10.0.0.9:80", "rr", &[]),
        ]);
        // In the file: one weight, a service taken away, one added.
        let new = state(&[
            ("10.0.0.4:80", "rr", &[]),
            ("10.0.0.1:80", "rr", &[("10.0.1.1:80", 1), ("10.0.1.2:80", 5)]),
            ("10.0.0.2:80", "rr", &[]),
        ]);
        let merged = state(&[
            ("10.0.0.4:80", "rr", &[]),
            ("10.0.0.1:80", "wlc", &[("10.0.1.1:80", 0), ("10.0.1.2:80", 5), ("10.0.1.9:80", 1)]),
            ("10.0.0.9:80", "rr", &[]),
        ]);
        assert_eq!(merge(&old, &run_time, &new), merged);
    }

    #[test]
    fn an_admin_state_outlives_changes_of_its_server_in_the_file() {
        let old = state(&[("10.0.0.1:80", "rr", &[("10.0.1.1:80", 1)])]);
        let new = state(&[("10.0.0.1:80", "wrr", &[("10.0.1.1:80", 5)])]);
        let mut run_time = old.clone();
        run_time.services[0].servers[0].admin = Admin::Disabled;
        let mut expected = new.clone();
        expected.services[0].servers[0].admin = Admin::Disabled;
        assert_eq!(merge(&old, &run_time, &new), expected);
        // And the reverse: what the file says of it anew leaves weights of run time alone.
        let mut run_time = old.clone();
        run_time.services[0].servers[0].weight = 9;
        let mut new = old.clone();
        new.services[0].servers[0].admin = Admin::Drain { until: None };
        let mut expected = new.clone();
        expected.services[0].servers[0].weight = 9;
        assert_eq!(merge(&old, &run_time, &new), expected);
    }

    #[test]
    fn a_service_changed_in_the_file_comes_back() {
        let old = state(&[("10.0.0.1:80", "rr", &[])]);
        let new = state(&[("10.0.0.1:80", "wrr", &[])]);
        assert_eq!(merge(&old, &State::default(), &new), new);
    }
}
