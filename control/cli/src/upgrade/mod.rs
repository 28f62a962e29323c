//! `fulcrum upgrade`: a process is started again, and whoever could notice is told before.
//!
//! Here: the order of the steps, and what becomes of them when one fails or somebody interrupts. How it is before is in
//! `look`, what still comes in `drain`, ways to start again in `restart`, how it is after in `settle`.

mod control;
mod drain;
mod look;
mod report;
mod restart;
mod settle;

use std::time::{Duration, Instant};

use clap::ValueEnum;
use fulcrum_api::control::Process;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::client::Client;
use crate::command::Global;
use crate::failure::Failure;
use crate::output::Output;
use look::Before;
use report::Report;
use restart::Way;

/// What withdrawn VIPs say of themselves.
const WHY: &str = "upgrade of the data plane";

/// VIPs stay withdrawn for so long after an upgrade that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(3600);

/// Beside the times that are waited, until VIPs come back although nobody says so.
const SLACK: Duration = Duration::from_secs(60);

/// Control answers again within this time, should it be started again meanwhile.
const CONTROL: Duration = Duration::from_secs(10);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// What to start again, and how.
///
/// The data plane: its VIPs are withdrawn from interfaces of the host, so that routers send their traffic to other
/// directors; what still comes is forwarded until nothing does, or --drain is over; then it is started again, with the
/// program that is installed; when it is programmed and well, its VIPs are announced again. Ctrl-C lets them come back.
///
/// fulcrum-control (`fulcrum upgrade control`): traffic goes on without it, so nothing is withdrawn.
///
/// Exit codes: 0 done, 1 not done or not well after: what is printed says how things are, and what to do.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    fulcrum upgrade --dry-run\n  \
    fulcrum upgrade --drain 2m\n  \
    fulcrum upgrade --command 'docker restart fulcrum-dataplane'\n  \
    fulcrum upgrade control")]
pub struct Arguments {
    /// Which process
    #[arg(value_enum, default_value = "dataplane")]
    what: What,
    /// How long to wait for traffic to go elsewhere, such as 30s or 5m; less when none comes any more
    #[arg(long, visible_alias = "for", value_name = "TIME", default_value = "30s", value_parser = time)]
    drain: Duration,
    /// How long to wait for the process to be back and well
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    timeout: Duration,
    /// Start it again by this command of the shell [default: systemctl restart of its unit, else it is asked to end, so
    /// that its supervisor starts it]
    #[arg(long, value_name = "COMMAND", conflicts_with = "no_restart")]
    command: Option<String>,
    /// Do not start it again, but wait until somebody has
    #[arg(long)]
    no_restart: bool,
    /// Go on although connections are cut, since no other director can be told to carry them
    #[arg(long, visible_alias = "yes")]
    force: bool,
    /// Look at everything, and print the steps alone
    #[arg(long)]
    dry_run: bool,
}

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// fulcrum-dataplane, which forwards
    Dataplane,
    /// fulcrum-control, which tells it how
    Control,
}

/// A time with its unit, or seconds.
fn time(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string()),
    }
}

/// How far an upgrade has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Nothing was done.
    Looking,
    /// VIPs are withdrawn.
    Withdrawn,
    /// The data plane has been told to start again.
    Restarted,
    /// VIPs may come back.
    Lifted,
}

/// Does it.
pub async fn run(global: &Global, arguments: Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let mut report = Report::new(out, global.json);
    let mut client = global.client().await?;
    if arguments.what == What::Control {
        return control::upgrade(global, &arguments, client, &mut report).await;
    }
    let before = look::before(&mut client).await?;
    let way = look(global, &arguments, &mut client, &before, &mut report).await?;
    if arguments.dry_run {
        return print_steps(&arguments, &before, &way, &mut report);
    }
    let mut upgrade =
        Upgrade { global, arguments: &arguments, before: &before, way: &way, stage: Stage::Looking };
    let done = tokio::select! {
        done = upgrade.steps(&mut client, &mut report) => done,
        name = interrupted() => Err(Failure::Invalid(format!("interrupted by {}", name?))),
    };
    match done {
        Ok(()) => Ok(()),
        Err(failure) => Err(upgrade.after_failure(failure).await),
    }
}

/// Says how things are; fails where it should not be begun.
async fn look(
    global: &Global,
    arguments: &Arguments,
    client: &mut Client,
    before: &Before,
    report: &mut Report<'_, '_>,
) -> Result<Way, Failure> {
    let nothing = |why: String| Failure::Invalid(format!("{why}\nnothing was done"));
    if let Some(why) = before.objection() {
        return Err(nothing(why));
    }
    let (dataplane, control) = (before.dataplane(), before.status.control.clone().unwrap_or_default());
    let pid = global.door.director.is_none().then_some(dataplane.pid);
    let installed = match pid {
        Some(pid) => look::installed("fulcrum-dataplane", pid).await.map(|(_, version)| version),
        None => None,
    };
    let starts = ("fulcrum-dataplane", dataplane.version.as_str(), installed.as_deref());
    let versions = look::versions(starts, ("fulcrum-control", &control.version)).map_err(nothing)?;
    let facts = json!({ "running": dataplane.version, "installed": installed, "control": control.version });
    report.say("versions", &versions, facts)?;
    let way = match (&arguments.command, arguments.no_restart) {
        (Some(command), _) => Way::Command(command.clone()),
        (None, true) => Way::Elsewhere("fulcrum-dataplane"),
        (None, false) => Way::of(Process::Dataplane, pid),
    };
    // Who may not do it hears so before anything is done.
    client.end(Process::Dataplane, true).await?;
    if let Some(warning) = before.vips.warning() {
        report.say("warning", &warning, json!({ "cut": before.vips.alone }))?;
        if !arguments.force && !arguments.dry_run {
            return Err(nothing(
                "connections would be cut: say --force, or move what is named above".to_owned(),
            ));
        }
    }
    Ok(way)
}

fn print_steps(
    arguments: &Arguments,
    before: &Before,
    way: &Way,
    report: &mut Report<'_, '_>,
) -> Result<(), Failure> {
    let (drain, timeout) = (arguments.drain.as_secs(), arguments.timeout.as_secs());
    let announced = !before.vips.announced.is_empty();
    if announced {
        report.tell("withdraw", &format!("would take {} off", before.vips.words()))?;
        report.tell("drain", &format!("would wait until nothing comes to them, {drain} s at most"))?;
    }
    report.tell("restart", &format!("would {way}"))?;
    report.tell("wait", &format!("would wait until it is programmed and well, {timeout} s at most"))?;
    if announced {
        report.tell("announce", "would let them come back")?;
    }
    report.tell("dry run", "nothing was done")
}

/// The name of the signal that comes first.
async fn interrupted() -> Result<&'static str, Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "Ctrl-C",
        _ = terminate.recv() => "SIGTERM",
        _ = hang_up.recv() => "SIGHUP",
    })
}

/// An upgrade of the data plane under way.
struct Upgrade<'a> {
    global: &'a Global,
    arguments: &'a Arguments,
    before: &'a Before,
    way: &'a Way,
    stage: Stage,
}

impl Upgrade<'_> {
    async fn steps(&mut self, client: &mut Client, report: &mut Report<'_, '_>) -> Result<(), Failure> {
        let begun = Instant::now();
        let vips = &self.before.vips;
        let announced = !vips.announced.is_empty();
        if announced {
            self.stage = Stage::Withdrawn;
            client.withdraw_vips(self.longest(), WHY).await?;
            self.gone(client).await?;
            let names: Vec<String> = vips.announced.keys().map(ToString::to_string).collect();
            report.say("withdrawn", &vips.words(), json!({ "vips": names }))?;
            drain::drain(client, vips, self.arguments.drain, report).await?;
            // A control that was started anew meanwhile has let them come back.
            let status = client.status().await?;
            self.hold(client, status.control.map_or(0, |control| control.withdrawn_ms)).await?;
            self.gone(client).await?;
        } else {
            report.tell("withdrawn", "nothing: no VIP is announced")?;
        }
        self.stage = Stage::Restarted;
        report.tell("restart", &self.way.to_string())?;
        self.way.go(client).await?;
        let after = settle::settle(self, report).await?;
        let version = after.dataplane().version;
        let generation = after.dataplane().generation;
        let facts = json!({ "version": version, "generation": generation });
        report.say(
            "programmed",
            &format!("fulcrum-dataplane {version} runs generation {generation}"),
            facts,
        )?;
        self.stage = Stage::Lifted;
        if announced {
            self.lift().await?;
            settle::announced(self.global, vips, report).await?;
        }
        let took = begun.elapsed().as_secs();
        report.say("done", &format!("after {took} s"), json!({ "seconds": took }))
    }

    /// For so long VIPs stay withdrawn, should nobody be there to let them come back.
    fn longest(&self) -> Duration {
        self.arguments.drain + self.arguments.timeout + SLACK
    }

    /// Waits until no VIP is on an interface any more.
    async fn gone(&self, client: &mut Client) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let listed = client.vips().await?;
            let still =
                listed.vips.iter().flat_map(|vip| &vip.places).filter(|place| place.announced).count();
            if still == 0 {
                return Ok(());
            }
            if begun.elapsed() > CONTROL {
                let why = "the log of fulcrum-control says why";
                return Err(Failure::Invalid(format!(
                    "{still} VIPs cannot be taken off their interfaces: {why}"
                )));
            }
            sleep(LOOK).await;
        }
    }

    /// Withdraws again what a control that was started anew has forgotten, or is about to let come back.
    async fn hold(&self, client: &mut Client, left_ms: u64) -> Result<(), Failure> {
        if !self.before.vips.announced.is_empty() && u128::from(left_ms) < SLACK.as_millis() {
            client.withdraw_vips(self.longest(), WHY).await?;
        }
        Ok(())
    }

    /// Lets VIPs come back, by a control that may just be started again.
    async fn lift(&self) -> Result<(), Failure> {
        self.withdraw(Duration::ZERO, WHY).await
    }

    async fn withdraw(&self, time: Duration, why: &str) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let done = match self.global.client().await {
                Ok(mut client) => client.withdraw_vips(time, why).await,
                Err(failure) => Err(failure),
            };
            match done {
                Err(_) if begun.elapsed() < CONTROL => sleep(LOOK).await,
                done => return done,
            }
        }
    }

    /// Whether the data plane runs as it did before.
    async fn untouched(&self) -> bool {
        let status = match self.global.client().await {
            Ok(mut client) => client.status().await.ok(),
            Err(_) => None,
        };
        let now = status.and_then(|status| status.dataplane);
        now.is_some_and(|now| now.instance == self.before.dataplane().instance)
    }

    /// Leaves things in good order; what failed, how things are, and what to do.
    async fn after_failure(&self, failure: Failure) -> Failure {
        let announced = !self.before.vips.announced.is_empty();
        let untouched =
            self.stage <= Stage::Withdrawn || self.stage == Stage::Restarted && self.untouched().await;
        let lifted = match (announced, untouched) {
            (true, true) => Some(self.lift().await),
            _ => None,
        };
        let how = match (self.stage, lifted) {
            (Stage::Looking, _) => "nothing was done".to_owned(),
            (_, Some(Ok(()))) => "nothing was started again; VIPs come back".to_owned(),
            (_, Some(Err(why))) => format!(
                "nothing was started again; VIPs come back within {} s, since fulcrum-control cannot be told: {why}",
                self.longest().as_secs()
            ),
            (_, None) if untouched => "nothing was started again".to_owned(),
            (Stage::Lifted, None) => {
                "the data plane runs and is programmed; VIPs come back when what `fulcrum vip list` says \
                                      of each is over"
                    .to_owned()
            }
            (_, None) if announced => self.stay_withdrawn(&failure).await,
            (_, None) => {
                "the data plane was told to start again: `fulcrum status` says whether it has, journalctl -u \
                          fulcrum-dataplane why not. To go back, install the version from before and start it"
                    .to_owned()
            }
        };
        Failure::Invalid(format!("{failure}\n{how}"))
    }

    async fn stay_withdrawn(&self, failure: &Failure) -> String {
        let reason = failure.to_string();
        let back = "when it serves, fulcrum vip withdraw --for 0s lets VIPs come back. To go back, install the version from \
                    before and start it";
        let told = "the data plane was told to start again: `fulcrum doctor` says how it is, journalctl -u fulcrum-dataplane \
                    why";
        // Who interrupts wants VIPs back as soon as the data plane serves, which is seen to by itself.
        if reason.starts_with("interrupted") {
            return match self.lift().await {
                Ok(()) => format!("{told}. VIPs come back when it serves"),
                Err(why) => format!("{told}. VIPs are still withdrawn ({why}): {back}"),
            };
        }
        let first = reason.lines().next().unwrap_or_default();
        let why = format!("{WHY} that failed: {first}");
        let stays = match self.withdraw(AFTER_FAILURE, &why).await {
            Ok(()) => "VIPs stay withdrawn for an hour, so that traffic stays elsewhere",
            Err(_) => "fulcrum-control does not answer",
        };
        format!("{told}. {stays}; {back}")
    }
}
