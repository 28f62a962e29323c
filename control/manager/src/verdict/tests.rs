//! Verdicts, and what follows from them, without probes and without a clock.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fulcrum_model::file::Config;
use fulcrum_model::{Admin, Edit, Server, Service, State};
use proptest::collection::vec;
use proptest::prelude::*;

use super::effective::effective;
use super::event::Event;
use super::memory::{Memory, Phase};
use super::plan::Plan;
use super::{Report, Verdict};
use Verdict::{Down, Unknown, Up};

mod admin;

/// A desired state, what probes say of it, and the time.
struct World {
    desired: Arc<State>,
    plan: Plan,
    reports: Vec<Option<Report>>,
    memory: Memory,
    now: SystemTime,
}

const HEAD: &str =
    "[[check]]\nname = \"web\"\ntype = \"tcp\"\n[[service]]\naddress = \"10.0.0.1:80\"\nprotocol = \"tcp\"\n";

/// Servers 10.1.0.1:80, 10.1.0.2:80 and so on of these weights.
fn servers(weights: &[u32]) -> String {
    let server = |(at, weight): (usize, &u32)| {
        format!(
            "[[service.server]]\naddress = \"10.1.0.{}:80\"\nforward = \"nat\"\nweight = {weight}\n",
            at + 1
        )
    };
    weights.iter().enumerate().map(server).collect()
}

fn sorry() -> &'static str {
    "[service.sorry-server]\naddress = \"10.1.0.99:80\"\nforward = \"nat\"\n"
}

impl World {
    fn new(service: &str, weights: &[u32]) -> World {
        let text = format!("{HEAD}checks = [\"web\"]\n{service}\n{}", servers(weights));
        World::of(Config::parse("test", &text).unwrap().state)
    }

    fn of(state: State) -> World {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let plan = Plan::new(&state);
        let reports = vec![None; plan.targets.len()];
        let mut world = World { desired: Arc::new(state), plan, reports, memory: Memory::default(), now };
        world.look();
        world
    }

    /// Another process, with the memory of this one.
    fn restarted(self) -> World {
        let memory = Memory { begun: false, ..self.memory };
        World { memory, reports: vec![None; self.reports.len()], ..self }
    }

    fn edit(&mut self, edit: Edit) {
        let mut state = State::clone(&self.desired);
        state.apply(&edit).unwrap();
        let old = std::mem::take(&mut self.reports);
        let plan = Plan::new(&state);
        self.reports =
            plan.targets.iter().map(|t| self.plan.find(t).and_then(|at| old[at].clone())).collect();
        (self.plan, self.desired) = (plan, Arc::new(state));
    }

    fn admin(&mut self, last: u8, admin: Admin) -> Vec<String> {
        let address = [10, 1, 0, last].into();
        self.edit(Edit::SetServerAdmin { service: None, address, port: None, admin });
        self.look()
    }

    /// What a probe of the server with this last byte says from now on.
    fn says(&mut self, last: u8, verdict: Verdict) {
        for (target, report) in std::iter::zip(&self.plan.targets, &mut self.reports) {
            if target.address == std::net::IpAddr::from([10, 1, 0, last]) {
                *report = Some(Report {
                    target: target.clone(),
                    verdict,
                    since: self.now,
                    last_error: (verdict != Up).then(|| "refused".to_owned()),
                    last: None,
                    next: None,
                    took: None,
                    good: 0,
                    bad: 0,
                    unasked: 0,
                    changed: 0,
                });
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Events in words.
    fn look(&mut self) -> Vec<String> {
        let events = self.memory.observe(&self.desired, &self.plan, &self.reports, self.now);
        events.iter().map(words).collect()
    }

    fn hear(&mut self, verdicts: &[(u8, Verdict)]) -> Vec<String> {
        verdicts.iter().for_each(|(last, verdict)| self.says(*last, *verdict));
        self.look()
    }

    fn effective(&self) -> Arc<State> {
        effective(&self.desired, &self.memory, self.now).0
    }

    /// Last bytes and weights of the first service's servers in the data plane.
    fn held(&self) -> Vec<(u8, u32)> {
        self.effective().services[0].servers.iter().map(|server| (last(server), server.weight)).collect()
    }
}

fn last(server: &Server) -> u8 {
    match server.key.address {
        std::net::IpAddr::V4(address) => address.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    }
}

fn words(event: &Event) -> String {
    let server = event.server.map_or(String::new(), |key| format!(" {key}"));
    format!("{}{server}: {}", event.kind.name(), event.why)
}

#[test]
fn a_server_that_fails_is_out_and_comes_back_to_its_place() {
    let mut world = World::new("", &[1, 2, 3]);
    assert_eq!(world.held(), [(1, 1), (2, 2), (3, 3)], "before the first verdict servers count as up");
    assert!(world.hear(&[(1, Up), (2, Up), (3, Up)]).is_empty(), "a first good verdict is no news");
    assert_eq!(world.hear(&[(2, Down)]), ["server-down 10.1.0.2:80: check web: refused"]);
    assert_eq!(world.held(), [(1, 1), (3, 3)]);
    assert!(world.look().is_empty());
    world.pass(75);
    assert_eq!(world.hear(&[(2, Up)]), ["server-up 10.1.0.2:80: passes its checks again after 1m 15s"]);
    assert_eq!(world.held(), [(1, 1), (2, 2), (3, 3)]);
}

#[test]
fn nothing_of_checks_gets_to_the_data_plane() {
    let mut world =
        World::new(&format!("on-failure = \"quiesce\"\nquorum = 2\nslow-start = 9\n{}", sorry()), &[1, 2]);
    world.admin(1, Admin::Drain { until: None });
    let plain = Config::parse(
        "test",
        &HEAD.replace("[[check]]\nname = \"web\"\ntype = \"tcp\"\n", "").add(&servers(&[0, 2])),
    );
    assert_eq!(*world.effective(), plain.unwrap().state);
    // And a state without any of it is handed on as it is.
    let plain = Arc::new(State {
        services: vec![Service::new(world.desired.services[0].key, "rr")],
        ..State::default()
    });
    assert!(Arc::ptr_eq(&effective(&plain, &Memory::default(), world.now).0, &plain));
}

trait Add {
    fn add(&self, more: &str) -> String;
}

impl Add for String {
    fn add(&self, more: &str) -> String {
        format!("{self}{more}")
    }
}

#[test]
fn a_server_that_fails_may_be_quiesced_instead() {
    let mut world = World::new("on-failure = \"quiesce\"", &[1, 2]);
    world.hear(&[(1, Down), (2, Down)]);
    assert_eq!(world.held(), [(1, 0), (2, 0)]);
    let mut state = State::clone(&world.desired);
    state.services[0].servers[1].health.on_failure = Some(fulcrum_model::OnFailure::Remove);
    world.desired = Arc::new(state);
    assert_eq!(world.held(), [(1, 0)]);
}

#[test]
fn without_a_sorry_server_all_that_fail_are_out() {
    let mut world = World::new("", &[1, 2]);
    assert_eq!(
        world.hear(&[(1, Down), (2, Down)]),
        [
            "server-down 10.1.0.1:80: check web: refused",
            "server-down 10.1.0.2:80: check web: refused",
            "quorum-lost: healthy servers weigh 0 of 1",
        ]
    );
    assert!(world.held().is_empty());
    let said = world.hear(&[(1, Up)]);
    assert_eq!(said.last().unwrap(), "quorum-gained: healthy servers weigh 1 of 1");
    assert_eq!(world.held(), [(1, 1)]);
}

#[test]
fn the_sorry_server_answers_while_the_quorum_is_lost() {
    let mut world = World::new(&format!("quorum = 3\nhysteresis = 1\n{}", sorry()), &[1, 1, 1, 1]);
    world.hear(&[(1, Down)]);
    assert_eq!(world.held(), [(2, 1), (3, 1), (4, 1)]);
    world.hear(&[(2, Down)]);
    assert_eq!(world.held(), [(3, 1), (4, 1)], "3 - 1 are enough to keep it");
    let said = world.hear(&[(3, Down)]);
    assert_eq!(said[1..], ["quorum-lost: healthy servers weigh 1 of 3", "sorry-on: 10.1.0.99:80 answers"]);
    assert_eq!(world.held(), [(99, 1)], "alive servers are out as well");
    world.hear(&[(2, Up), (3, Up)]);
    assert_eq!(world.held(), [(99, 1)], "3 + 1 are needed to regain it");
    let said = world.hear(&[(1, Up)]);
    assert_eq!(
        said[1..],
        ["quorum-gained: healthy servers weigh 4 of 3", "sorry-off: the service's servers answer"]
    );
    assert_eq!(world.held(), [(1, 1), (2, 1), (3, 1), (4, 1)]);
}

#[test]
fn a_quorum_that_cannot_be_exceeded_is_regained_when_no_server_is_missing() {
    let mut world = World::new(&format!("quorum = 3\nhysteresis = 1\n{}", sorry()), &[1, 1, 1]);
    world.hear(&[(1, Down), (2, Down)]);
    assert_eq!(world.held(), [(99, 1)]);
    world.hear(&[(1, Up)]);
    assert_eq!(world.held(), [(99, 1)]);
    world.hear(&[(2, Up)]);
    assert_eq!(world.held(), [(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn with_quiescing_alive_servers_stay_beside_the_sorry_server() {
    let mut world = World::new(&format!("quorum = 2\non-failure = \"quiesce\"\n{}", sorry()), &[1, 1]);
    world.hear(&[(1, Down)]);
    assert_eq!(world.held(), [(1, 0), (2, 0), (99, 1)]);
}

#[test]
fn a_service_whose_weights_are_all_zero_says_sorry() {
    let mut world = World::new(sorry(), &[0, 0]);
    assert_eq!(world.held(), [(99, 1)]);
    let key = world.desired.services[0].key;
    let server = Server { weight: 5, ..world.desired.services[0].servers[1].clone() };
    world.edit(Edit::UpdateServer(key, server));
    world.look();
    assert_eq!(world.held(), [(1, 0), (2, 5)]);
}

#[test]
fn what_cannot_be_checked_stays_what_it_was() {
    let mut world = World::new("", &[1, 1]);
    world.hear(&[(1, Up), (2, Down)]);
    let said = world.hear(&[(1, Unknown), (2, Unknown)]);
    assert_eq!(
        said,
        [
            "server-unknown 10.1.0.1:80: cannot be checked: check web: refused",
            "server-unknown 10.1.0.2:80: cannot be checked: check web: refused",
        ]
    );
    assert_eq!(world.held(), [(1, 1)]);
    assert!(world.look().is_empty());
    let said = world.hear(&[(1, Up), (2, Up)]);
    assert_eq!(said[0], "server-up 10.1.0.1:80: can be checked again, and passes");
    assert_eq!(world.held(), [(1, 1), (2, 1)]);
}

#[test]
fn all_checks_of_a_server_have_to_pass() {
    let mut world = World::new("[[service.check]]\ntype = \"ping\"", &[1, 1]);
    assert_eq!(world.plan.targets.len(), 4);
    world.hear(&[(1, Up), (2, Up)]);
    let ping = world.plan.of(0, 0)[1].place;
    world.reports[ping].as_mut().unwrap().verdict = Down;
    world.reports[ping].as_mut().unwrap().last_error = Some("no answer".into());
    assert_eq!(world.look(), ["server-down 10.1.0.1:80: check ping: no answer"]);
    assert_eq!(world.held(), [(2, 1)]);
    // One that says nothing any more leaves it down, though the other one passes.
    world.reports[ping] = None;
    world.look();
    assert_eq!(world.held(), [(2, 1)]);
}

#[test]
fn a_server_without_checks_any_more_is_up() {
    let mut world = World::new("", &[1, 1]);
    world.hear(&[(1, Down), (2, Up)]);
    let service = world.desired.services[0].clone();
    let health = fulcrum_model::ServerHealth { checks: Some(vec![]), ..Default::default() };
    world.edit(Edit::SetServerHealth(service.key, service.servers[0].key, health));
    assert_eq!(world.look(), ["server-up 10.1.0.1:80: has no checks any more"]);
    assert_eq!(world.held(), [(1, 1), (2, 1)]);
    world.edit(Edit::SetServiceHealth(service.key, Default::default()));
    assert!(world.look().is_empty());
    assert!(world.memory.services.is_empty());
}

#[test]
fn the_weight_of_a_server_that_came_back_grows() {
    let mut world = World::new("slow-start = 27", &[40, 80]);
    world.hear(&[(1, Up), (2, Down)]);
    assert_eq!(world.held(), [(1, 40)], "the first verdict is no return");
    world.hear(&[(2, Up)]);
    let mut steps = Vec::new();
    while let (_, Some(next)) = effective(&world.desired, &world.memory, world.now) {
        steps.push(world.held()[1].1);
        assert_eq!(world.held()[0].1, 40);
        assert_eq!(next - Duration::from_secs(3), world.now);
        world.now = next;
        world.look();
    }
    assert_eq!(steps, [8, 16, 24, 32, 40, 48, 56, 64, 72]);
    assert_eq!(world.held(), [(1, 40), (2, 80)]);
    assert_eq!(
        world
            .memory
            .services
            .values()
            .next()
            .unwrap()
            .servers
            .values()
            .filter(|s| s.warming.is_some())
            .count(),
        0
    );
}

#[test]
fn small_weights_are_multiplied_while_one_grows() {
    let mut world = World::new("slow-start = 9", &[1, 2]);
    world.hear(&[(1, Up), (2, Down)]);
    world.hear(&[(2, Up)]);
    assert_eq!(world.held(), [(1, 10), (2, 2)]);
    world.pass(5);
    assert_eq!(world.held(), [(1, 10), (2, 12)]);
    world.pass(4);
    world.look();
    assert_eq!(world.held(), [(1, 1), (2, 2)]);
    // ovf counts connections by weights; and beyond the largest weight there is nothing.
    for (scheduler, weights) in [("ovf", [1, 2]), ("wrr", [i32::MAX as u32, 2])] {
        let mut world = World::new(&format!("slow-start = 10\nscheduler = \"{scheduler}\""), &weights);
        world.hear(&[(1, Up), (2, Down)]);
        world.hear(&[(2, Up)]);
        assert_eq!(world.held(), [(1, weights[0]), (2, 1)]);
    }
}

#[test]
fn another_process_goes_on_with_what_was_known() {
    let mut world = World::new(&format!("quorum = 2\n{}", sorry()), &[1, 1, 1]);
    world.hear(&[(1, Down), (2, Down), (3, Up)]);
    assert_eq!(world.held(), [(99, 1)]);
    let mut world = world.restarted();
    assert!(world.look().is_empty());
    assert_eq!(world.held(), [(99, 1)]);
    world.hear(&[(1, Up)]);
    assert_eq!(world.held(), [(1, 1), (3, 1)]);
}

fn phase_of(world: &World, server: &Server) -> Phase {
    Phase::of(server.admin, world.now)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, the data plane has what it should have by what is known in the end.
    #[test]
    fn what_the_data_plane_has_follows_from_what_is_known(
        quorum in 1..4u32,
        hysteresis in 0..3u32,
        quiesce in any::<bool>(),
        has_sorry in any::<bool>(),
        slow_start in prop_oneof![Just(0u32), Just(20)],
        weights in vec(0..4u32, 1..5),
        steps in vec((0..5u8, 1..5u8, 0..15u64), 1..40),
    ) {
        let hysteresis = hysteresis.min(quorum - 1);
        let way = if quiesce { "quiesce" } else { "remove" };
        let text = format!(
            "quorum = {quorum}\nhysteresis = {hysteresis}\non-failure = \"{way}\"\nslow-start = {slow_start}\n{}",
            if has_sorry { sorry() } else { "" },
        );
        let mut world = World::new(&text, &weights);
        for (what, server, seconds) in steps {
            world.pass(seconds);
            let known = usize::from(server) <= weights.len();
            match what {
                0 => world.says(server, Up),
                1 => world.says(server, Down),
                2 => world.says(server, Unknown),
                3 if known => drop(world.admin(server, Admin::Drain { until: None })),
                4 if known => drop(world.admin(server, Admin::Enabled)),
                _ => {}
            }
            world.look();
            prop_assert!(world.look().is_empty(), "nothing happened in between");
            let desired = &world.desired.services[0];
            let held = &world.effective().services[0];
            let known = &world.memory.services[&desired.key];
            let weight: u64 = desired.servers.iter()
                .filter(|s| phase_of(&world, s) == Phase::Enabled && known.servers[&s.key].healthy())
                .map(|s| u64::from(s.weight)).sum();
            prop_assert_eq!(known.weight, weight);
            let lost = known.quorum_lost.is_some();
            prop_assert!(lost || (weight > 0 && weight >= u64::from(quorum - hysteresis)));
            prop_assert!(!lost || weight < u64::from(quorum + hysteresis));
            // Places are those of the configuration.
            let order: Vec<usize> = held.servers.iter()
                .filter_map(|s| desired.servers.iter().position(|d| d.key == s.key)).collect();
            prop_assert!(order.is_sorted());
            let sorry = held.servers.iter().filter(|s| last(s) == 99).count();
            prop_assert_eq!(sorry, usize::from(has_sorry && lost));
            for server in &desired.servers {
                let there = held.servers.iter().find(|s| s.key == server.key);
                let serves = known.servers[&server.key].healthy() && sorry == 0;
                let weight = there.map(|s| s.weight);
                match phase_of(&world, server) {
                    Phase::Enabled if serves => {
                        let weight = weight.expect("a healthy server stays");
                        prop_assert_eq!(weight == 0, server.weight == 0);
                        prop_assert!(slow_start > 0 || weight == server.weight);
                    }
                    Phase::Draining if known.servers[&server.key].healthy() => prop_assert_eq!(weight, Some(0)),
                    Phase::Disabled => prop_assert_eq!(weight, None),
                    _ => prop_assert_eq!(weight, quiesce.then_some(0)),
                }
            }
        }
        // Slow starts come to an end by themselves, at the times that are told.
        let mut rounds = 0;
        while let (_, Some(next)) = effective(&world.desired, &world.memory, world.now) {
            prop_assert!(next > world.now);
            world.now = next;
            world.look();
            rounds += 1;
            prop_assert!(rounds < 100);
        }
        for server in &world.effective().services[0].servers {
            let configured = world.desired.services[0].servers.iter().find(|s| s.key == server.key);
            prop_assert!(configured.is_none_or(|s| server.weight == 0 || server.weight == s.weight));
        }
    }
}
