//! `make soak`: load on a director that has a hard time, and then a look for what is wrong or left over.
//!
//! Clients ask all services all the time ([`clients`]) while servers, links, weights and both processes come and go
//! ([`chaos`]). A run is good when every answer came from a server of the service asked, every failure has its explanation,
//! and nothing is left at the end ([`account`]).

mod account;
mod chaos;
pub(crate) mod clients;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use fulcrum_e2e::net;
use fulcrum_e2e::process::program;

use account::{Account, Baseline};
use chaos::{Chaos, words};
use clients::{Kind, Outcome};
use stage::{SERVERS, Service, Stage};

/// In the names of its namespaces.
pub(crate) const TAG: &str = "soak";

/// With load and without trouble, at the beginning and at the end.
const CALM: Duration = Duration::from_secs(5);

/// Failures and wrong deliveries that are told in words.
const TOLD: usize = 20;

pub(crate) fn run(minutes: f64, seed: Option<u64>) -> Result<(), Box<dyn std::error::Error>> {
    let length = Duration::try_from_secs_f64(minutes * 60.0)
        .map_err(|_| format!("--minutes {minutes}: a number above 0, such as 5 or 0.5"))?;
    ctrlc::set_handler(|| {
        net::remove_tag(TAG);
        std::process::exit(130);
    })?;
    super::complain_in_words();
    let seed = seed.unwrap_or_else(|| clients::now() % 1_000_000);
    println!(
        "Seed {seed}, {:.0} s. Setting the stage: four ways, both families, HTTP and UDP",
        length.as_secs_f64()
    );
    let services = Service::all();
    let mut stage = Stage::build(TAG, &services);
    thread::sleep(CALM);
    let mut baseline = Baseline::take(&mut stage);

    let mut load = Load::start(&stage, &services);
    let mut chaos = Chaos::new(seed, services.clone());
    let mut verdict = Verdict { started: chaos.started, ..Verdict::default() };
    thread::sleep(CALM);
    baseline.warm(&mut stage);
    let start = Instant::now();
    while start.elapsed() < length {
        chaos.act(&mut stage);
        verdict.judge(&load, &chaos, &services);
        baseline.look(&mut stage);
        thread::sleep(chaos.pause());
    }
    chaos.heal(&mut stage);
    // In turn, so that every server has to answer.
    for service in &services {
        stage.director.fulcrum(&format!("service edit {} --scheduler rr", service.name()));
    }
    // What the last trouble explains has passed by then.
    thread::sleep(CALM);
    verdict.judge(&load, &chaos, &services);
    verdict.answered.clear();
    thread::sleep(CALM);
    verdict.judge(&load, &chaos, &services);
    load.stop();
    chaos.say("load ended", "the load ends, sessions have time to end");

    let mut account = Account::default();
    verdict.report(&services, &mut account);
    account.settle(&mut stage, &baseline);
    println!("\nWhat was done");
    chaos.done.iter().for_each(|(what, times)| println!("  {what:<40} {times}"));
    println!("\nWhat is to be said of it");
    account.print();
    match account.breaches() {
        0 => {
            drop(stage);
            println!("\nNothing is wrong, and nothing is left.");
            Ok(())
        }
        breaches => {
            let kept = stage.lab.keep().map(|kept| format!("; logs are in {}", kept.display()));
            drop(stage);
            Err(format!("seed {seed}: {breaches} of the above are wrong{}", kept.unwrap_or_default()).into())
        }
    }
}

/// The clients' process.
struct Load {
    child: Child,
    outcomes: Receiver<Outcome>,
}

impl Load {
    fn start(stage: &Stage, services: &[Service]) -> Load {
        let mut command = stage.net.client.command(program("fulcrum-lab"));
        command.arg("ask-all").args(services.iter().map(Service::asked));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("ip can be run");
        let out = child.stdout.take().expect("it is piped");
        let (tell, outcomes) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            // Until nobody listens any more.
            let _ = lines.filter_map(|line| Outcome::read(&line)).try_for_each(|outcome| tell.send(outcome));
        });
        Load { child, outcomes }
    }

    fn stop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came of the requests.
#[derive(Default)]
struct Verdict {
    answers: BTreeMap<&'static str, u64>,
    /// Servers that answered for services of late.
    answered: BTreeSet<(usize, usize)>,
    explained: u64,
    /// When the chaos began, by the clock on the wall.
    started: u64,
    unexplained: Vec<Outcome>,
    wrong: Vec<Outcome>,
    /// Answers by servers that were to get no new connections.
    forbidden: Vec<Outcome>,
}

impl Verdict {
    /// Judges what has come in. To be called when all that was done has been noted.
    fn judge(&mut self, load: &Load, chaos: &Chaos, services: &[Service]) {
        for outcome in load.outcomes.try_iter() {
            match &outcome.answer {
                Ok(answer) => {
                    *self.answers.entry(outcome.kind.name()).or_default() += 1;
                    match services[outcome.service].answerer(answer) {
                        None => self.wrong.push(outcome),
                        Some(server) if chaos.notes.forbid(&outcome, server) => self.forbidden.push(outcome),
                        Some(server) if outcome.kind != Kind::Kept => {
                            self.answered.insert((outcome.service, server));
                        }
                        Some(_) => {}
                    }
                }
                Err(_) if chaos.notes.explain(&outcome) => self.explained += 1,
                Err(_) => {
                    println!(
                        "           FAILED without a reason: {}",
                        words(&outcome, services, chaos.started)
                    );
                    self.unexplained.push(outcome);
                }
            }
        }
    }

    fn report(&self, services: &[Service], account: &mut Account) {
        for (kind, count) in &self.answers {
            account.tell(&format!("answers ({kind})"), *count);
        }
        account.tell("failures that are explained", self.explained);
        let lists = [
            ("failures without an explanation", &self.unexplained),
            ("answers by servers of other services, or to other questions", &self.wrong),
            ("new connections to servers that were taken out", &self.forbidden),
        ];
        for (what, list) in lists {
            account.want(what, list.len() as u64, 0);
            for outcome in list.iter().take(TOLD) {
                account.explain(words(outcome, services, self.started));
            }
        }
        let silent: Vec<String> = (0..services.len())
            .flat_map(|service| services[service].servers.map(|server| (service, server)))
            .filter(|pair| !self.answered.contains(pair))
            .map(|(service, server)| format!("{} for {}", SERVERS[server].0, services[service].name()))
            .collect();
        account.want("servers that do not answer at the end", silent.len() as u64, 0);
        silent.into_iter().for_each(|text| account.explain(text));
    }
}
