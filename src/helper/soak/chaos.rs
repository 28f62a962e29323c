//! What is done to a director that is soaked: chosen by a seeded generator, told as it happens, and noted, so that every
//! failure can be held against what explains it.
//!
//! One server at a time is in trouble, so every service has another: what fails without an explanation is a fault.

use std::time::{Duration, Instant};

use fulcrum_e2e::process::Process;

use super::clients::{Kind, Outcome, now};
use super::stage::{HTTP, NOTICED, SERVERS, Service, Stage, serve};

/// Until what was broken off is gone, in milliseconds.
const AFTERMATH: u64 = 3_000;
/// Until connections that were opened before an edit have been given to their servers.
const SETTLED: u64 = 1_000;

/// How long a session of datagrams may be met again from the same port: its time-out, and some.
const LINGERS: u64 = 7_000;

/// SplitMix64: enough for choices that can be repeated.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap_or(0)]
    }
}

/// A time in which requests to some services may fail.
#[derive(Clone, Debug)]
struct Excuse {
    from: u64,
    to: u64,
    services: Vec<usize>,
}

/// A time in which a server of a service gets no new connections.
#[derive(Clone, Debug)]
struct Closed {
    from: u64,
    to: u64,
    services: Vec<usize>,
    server: usize,
}

/// What was done when, as far as requests are concerned.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    excuses: Vec<Excuse>,
    closed: Vec<Closed>,
}

impl Notes {
    /// Whether a failure lies in a time in which there may be some.
    pub(super) fn explain(&self, outcome: &Outcome) -> bool {
        self.excuses.iter().any(|excuse| {
            excuse.services.contains(&outcome.service)
                && outcome.asked <= excuse.to
                && outcome.ended >= excuse.from
        })
    }

    /// Whether the connection went to a server that was to get no new ones.
    pub(super) fn forbid(&self, outcome: &Outcome, server: usize) -> bool {
        self.closed.iter().any(|closed| {
            closed.server == server
                && closed.services.contains(&outcome.service)
                // A port that has just been somebody else's still has a session.
                && closed.from + if outcome.kind == Kind::Datagram { LINGERS } else { 0 } <= outcome.opened
                && outcome.made < closed.to
        })
    }
}

/// What is wrong with the server that is in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    HttpDead,
    CableOut,
    WeightZero,
    Deleted,
    Drained,
    Disabled,
}

/// The one who does it.
#[derive(Debug)]
pub(super) struct Chaos {
    random: Random,
    services: Vec<Service>,
    start: Instant,
    /// The same by the clock on the wall.
    pub(super) started: u64,
    victim: Option<(usize, Trouble, Instant)>,
    pub(super) notes: Notes,
    /// What was done, and how often.
    pub(super) done: std::collections::BTreeMap<&'static str, usize>,
}

impl Chaos {
    pub(super) fn new(seed: u64, services: Vec<Service>) -> Chaos {
        Chaos {
            random: Random(seed),
            services,
            start: Instant::now(),
            started: now(),
            victim: None,
            notes: Notes::default(),
            done: Default::default(),
        }
    }

    /// Until when the next thing is done.
    pub(super) fn pause(&mut self) -> Duration {
        Duration::from_millis(500 + self.random.below(1500))
    }

    /// Does the next thing.
    pub(super) fn act(&mut self, stage: &mut Stage) {
        if self.victim.is_some_and(|(.., until)| Instant::now() >= until) {
            return self.heal(stage);
        }
        match self.random.below(if self.victim.is_none() { 12 } else { 5 }) {
            0 => self.restart_control(stage),
            1 => self.restart_dataplane(stage),
            2 => self.come_and_go(stage),
            3 | 4 => self.change_weights(stage),
            _ => self.trouble(stage),
        }
    }

    pub(super) fn say(&mut self, kind: &'static str, what: &str) {
        *self.done.entry(kind).or_default() += 1;
        println!("[{:7.2} s] {what}", self.start.elapsed().as_secs_f64());
    }

    fn note(&mut self, from: u64, to: u64, services: Vec<usize>) {
        self.notes.excuses.push(Excuse { from, to, services });
    }

    fn all(&self, which: impl Fn(&Service) -> bool) -> Vec<usize> {
        (0..self.services.len()).filter(|number| which(&self.services[*number])).collect()
    }

    /// Ends a process in one of two ways, and starts it again after a while.
    fn end(&mut self, process: &mut Process, kind: &'static str) {
        let by = self.random.one_of(&["KILL", "KILL", "TERM"]);
        self.say(kind, &format!("{kind} ends by SIG{by}"));
        process.signal(by);
        process.wait(Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(self.random.below(1500)));
    }

    fn restart_control(&mut self, stage: &mut Stage) {
        let from = now();
        self.end(stage.director.control(), "fulcrum-control");
        stage.director.start_control();
        self.programmed(stage);
        // Who is away finds out about a failed server later; nobody else may notice.
        if let Some((server, ..)) = self.victim {
            let its = self.all(|service| service.servers.contains(&server) && service.is_checked());
            if self.is_down() {
                self.note(from, now() + NOTICED, its);
            }
        }
    }

    fn restart_dataplane(&mut self, stage: &mut Stage) {
        let (from, before) = (now(), stage.director.life());
        self.end(stage.director.dataplane(), "fulcrum-dataplane");
        stage.director.start_dataplane();
        // What control says of the one that has ended is not about this one.
        stage.director.wait_programmed_anew(before, Duration::from_secs(30));
        let all = self.all(|_| true);
        self.note(from, now() + AFTERMATH, all);
    }

    fn is_down(&self) -> bool {
        matches!(self.victim, Some((_, Trouble::HttpDead | Trouble::CableOut, _)))
    }

    /// Waits until the data plane runs what was asked for.
    fn programmed(&self, stage: &mut Stage) {
        stage.director.wait_programmed(Duration::from_secs(30));
    }

    /// A service comes, is asked, and goes with the sessions that it has.
    fn come_and_go(&mut self, stage: &mut Stage) {
        self.say("service added and deleted", "tcp 172.16.100.13:80 comes and goes");
        stage.director.ipvsadm_lines(
            "-A -t 172.16.100.13:80 -s rr
             -a -t 172.16.100.13:80 -r 192.168.20.7:8081 -m
             -a -t 172.16.100.13:80 -r 192.168.20.8:8081 -m",
        );
        self.programmed(stage);
        let ask = "for i in 1 2 3 4; do curl -s --max-time 1 http://172.16.100.13/ && echo || true; done";
        for answer in stage.net.client.sh(ask).lines() {
            let its =
                ["web1 ", "web2 "].iter().any(|name| answer.starts_with(name)) && answer.contains(":8081 ");
            assert!(its, "172.16.100.13 answers `{answer}`, not as one of its servers");
        }
        stage.director.ipvsadm("-D -t 172.16.100.13:80");
    }

    fn change_weights(&mut self, stage: &mut Stage) {
        let number = usize::try_from(self.random.below(self.services.len() as u64)).unwrap_or(0);
        let service = self.services[number].clone();
        let server = self.random.one_of(&service.servers);
        // Whoever is to get nothing keeps on getting nothing.
        if self.victim.is_some_and(|(victim, ..)| victim == server) {
            return;
        }
        let weight = 1 + self.random.below(5);
        let (name, server) = (service.name(), service.server(server));
        self.say("weight changed", &format!("{name}: {server} weighs {weight}"));
        stage.director.fulcrum(&format!("server edit {name} {server} --weight {weight}"));
    }

    /// Gets a server into trouble.
    fn trouble(&mut self, stage: &mut Stage) {
        use Trouble::{CableOut, Deleted, Disabled, Drained, HttpDead, WeightZero};
        let trouble = self.random.one_of(&[HttpDead, CableOut, WeightZero, Deleted, Drained, Disabled]);
        // The third one hangs on no switch.
        let server = self.random.one_of(if trouble == CableOut { &[0, 1][..] } else { &[0, 1, 2] });
        let until = Instant::now() + Duration::from_millis(3000 + self.random.below(9000));
        let (name, address, _) = SERVERS[server];
        let its = self.all(|service| service.servers.contains(&server));
        let from = now();
        match trouble {
            HttpDead => {
                self.say("server process killed", &format!("{name}: nginx is killed"));
                stage.net.servers[server].kill(HTTP);
            }
            CableOut => {
                self.say("link down", &format!("{name}: its links go down"));
                stage.net.set_link(server, false);
            }
            WeightZero => {
                self.say("weight 0", &format!("{name} weighs 0 everywhere"));
                self.each(stage, &its, |service| {
                    format!("server edit {} {} --weight 0", service.name(), service.server(server))
                });
            }
            Deleted => {
                self.say("server deleted", &format!("{name} is deleted from all services"));
                self.each(stage, &its, |service| {
                    format!("server delete {} {}", service.name(), service.server(server))
                });
            }
            Drained => {
                self.say("server drained", &format!("{name} is drained (IPv4)"));
                stage.director.fulcrum(&format!("server drain {address}"));
            }
            Disabled => {
                self.say("server disabled", &format!("{name} is disabled (IPv4)"));
                stage.director.fulcrum(&format!("server disable {address}"));
            }
        }
        self.victim = Some((server, trouble, until));
        let its = if matches!(trouble, Drained | Disabled) { self.ipv4(&its) } else { its };
        match trouble {
            HttpDead | CableOut => {
                let (checked, others): (Vec<usize>, Vec<usize>) =
                    its.into_iter().partition(|number| self.services[*number].is_checked());
                self.note(from, from + NOTICED, checked);
                // Nobody finds out about these: until the server is back.
                let others =
                    others.into_iter().filter(|n| trouble == CableOut || self.services[*n].http).collect();
                self.note(from, u64::MAX, others);
            }
            WeightZero | Deleted | Drained | Disabled => {
                self.programmed(stage);
                if matches!(trouble, Deleted | Disabled) {
                    self.note(from, now() + AFTERMATH, its.clone());
                }
                self.notes.closed.push(Closed { from: now() + SETTLED, to: u64::MAX, services: its, server });
            }
        }
    }

    fn ipv4(&self, of: &[usize]) -> Vec<usize> {
        let v4 = fulcrum_e2e::net::Family::V4;
        of.iter().copied().filter(|number| self.services[*number].family == v4).collect()
    }

    fn each(&self, stage: &Stage, of: &[usize], line: impl Fn(&Service) -> String) {
        for number in of {
            stage.director.fulcrum(&line(&self.services[*number]));
        }
    }

    /// Gets the server out of its trouble.
    pub(super) fn heal(&mut self, stage: &mut Stage) {
        let Some((server, trouble, _)) = self.victim.take() else { return };
        let (name, address, check_address) = SERVERS[server];
        let its = self.all(|service| service.servers.contains(&server));
        if let Some(closed) = self.notes.closed.last_mut().filter(|closed| closed.to == u64::MAX) {
            closed.to = now();
        }
        self.say("server put right", &format!("{name} is put right ({trouble:?})"));
        match trouble {
            Trouble::HttpDead => serve(&mut stage.net, server),
            Trouble::CableOut => stage.net.set_link(server, true),
            Trouble::WeightZero => self.each(stage, &its, |service| {
                format!("server edit {} {} --weight 1", service.name(), service.server(server))
            }),
            Trouble::Deleted => self.each(stage, &its, |service| {
                let (name, server, way) = (service.name(), service.server(server), service.way);
                format!("server add {name} {server} --forward {way} --check-address {check_address}")
            }),
            Trouble::Drained | Trouble::Disabled => {
                stage.director.fulcrum(&format!("server enable {address}"));
            }
        }
        let from = now();
        for excuse in self.notes.excuses.iter_mut().filter(|excuse| excuse.to == u64::MAX) {
            excuse.to = from + AFTERMATH;
        }
        if trouble == Trouble::CableOut {
            self.note(from, from + AFTERMATH, its);
        }
    }
}

/// A request in words, its times since the start of the chaos.
pub(super) fn words(outcome: &Outcome, services: &[Service], start: u64) -> String {
    let how = match outcome.kind {
        Kind::New => "a connection of its own",
        Kind::Kept => "a connection that is kept",
        Kind::Datagram => "datagrams",
    };
    let text = match &outcome.answer {
        Ok(text) | Err(text) => text,
    };
    let seconds = |at: u64| at.saturating_sub(start) as f64 / 1000.0;
    let Outcome { opened, asked, ended, .. } = outcome;
    format!(
        "{} by {how} of {:.2} s, from {:.2} to {:.2} s: {text}",
        services[outcome.service].name(),
        seconds(*opened),
        seconds(*asked),
        seconds(*ended)
    )
}
