//! What importers write into: checks that are shared where they are equal, and what was left out.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fulcrum_model::validate::{self, Problem};
use fulcrum_model::{Check, Forward, Service, ServiceKey, State};

use crate::Import;
use crate::left_out::{LeftOut, Place};

/// A state in the making.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) state: State,
    pub(crate) left_out: Vec<LeftOut>,
    /// Names of checks by what they are but for the name.
    names: HashMap<Check, String>,
    /// Those of the state's services.
    keys: HashSet<ServiceKey>,
    /// How many there are of each kind.
    of_kind: HashMap<&'static str, usize>,
}

impl Draft {
    /// Names what has no equivalent, once for each place and reason.
    pub(crate) fn leave_out(&mut self, place: &Place, what: impl Into<String>, why: impl Into<String>) {
        let said = LeftOut { place: place.clone(), what: what.into(), why: why.into() };
        if !self.left_out.contains(&said) {
            self.left_out.push(said);
        }
    }

    /// The name of a check like this, whose own name does not matter; `None` when there can be no such check.
    pub(crate) fn check(&mut self, place: &Place, what: &str, check: Check) -> Option<String> {
        let bare = Check { name: String::new(), ..check };
        if let Some(name) = self.names.get(&bare) {
            return Some(name.clone());
        }
        let problems = validate::nameless_check(&bare);
        if !problems.is_empty() {
            self.leave_out(place, what, said(problems));
            return None;
        }
        let kind = bare.kind.name();
        let number = self.of_kind.entry(kind).or_default();
        *number += 1;
        let name = match *number {
            1 => kind.to_owned(),
            number => format!("{kind}-{number}"),
        };
        self.state.checks.push(Check { name: name.clone(), ..bare.clone() });
        self.names.insert(bare, name.clone());
        Some(name)
    }

    /// Adds a service whose servers each say their own checks: what they have in common becomes the service's.
    pub(crate) fn service(&mut self, place: &Place, what: &str, mut service: Service) {
        // Where a director's own host is to answer, it is named by its loopback address.
        let sorry = service.health.sorry_server.iter_mut().map(|sorry| &mut **sorry);
        for server in
            service.servers.iter_mut().chain(sorry).filter(|server| server.key.address.is_loopback())
        {
            server.forward = Forward::Local;
            server.key.port = service.key.port().unwrap_or(server.key.port);
        }
        let lists = service.servers.iter().filter_map(|server| server.health.checks.clone());
        // Of equally frequent ones the first.
        let shared = lists.rev().max_by_key(|list| {
            service.servers.iter().filter(|server| server.health.checks.as_ref() == Some(list)).count()
        });
        service.health.checks = shared.clone().unwrap_or_default();
        for server in &mut service.servers {
            if server.health.checks.as_ref().is_none_or(|own| *own == service.health.checks) {
                server.health.checks = None;
            }
        }
        let sorry = validate::sorry_server(&service);
        if !sorry.is_empty() {
            self.leave_out(place, what, said(sorry));
            service.health.sorry_server = None;
        }
        let of_service = validate::service(&self.state, &service);
        let of_servers = service.servers.iter().flat_map(|server| validate::server(service.key, server));
        let mut problems: Vec<Problem> = of_service.into_iter().chain(of_servers).collect();
        if !self.keys.insert(service.key) {
            let message = format!("there is {} already", service.key);
            problems.push(Problem { key: "address", item: None, message });
        }
        match problems.is_empty() {
            true => self.state.services.push(service),
            false => self.leave_out(place, what, said(problems)),
        }
    }

    /// The import, what was left out by place.
    pub(crate) fn finish(mut self) -> Import {
        self.left_out.sort();
        Import { state: self.state, left_out: self.left_out }
    }
}

fn said(problems: Vec<Problem>) -> String {
    problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
}

/// How often a check is made, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Failures in a row that take a server out.
    pub(crate) fall: u32,
}

impl Pace {
    /// What is said of a time-out that is longer than the interval.
    pub(crate) fn too_long(interval: Duration) -> String {
        format!("a probe ends before the next one begins, here after {} s", interval.as_secs_f64())
    }

    /// A check of that pace: one success brings a server back, as with keepalived and ldirectord.
    pub(crate) fn of(self, check: Check) -> Check {
        let Pace { interval, timeout, fall } = self;
        Check { interval, timeout: timeout.min(interval), rise: 1, fall, ..check }
    }
}
