//! `fulcrum top`: what the director does now, live in a terminal, or once as a table or JSON.
//!
//! In the order of a look: what is asked and how much it grew (`sample`), its tables (`tables`, numbers as `number`
//! writes them), what of them the keys have chosen (`screen`), how it looks (`draw`). Here: the loop around.

mod draw;
mod number;
mod sample;
mod screen;
mod tables;

use std::io::{IsTerminal as _, stdout};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use ratatui::crossterm::event::{self, Event};
use serde_json::{Map, Value};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::command::Global;
use crate::failure::Failure;
use crate::output::Output;
use sample::{Sample, Sampler, Shown};
use screen::{Flow, Screen};
use tables::Table;

/// Between two looks for a key, so that the thread that looks ends with the command.
const KEY: Duration = Duration::from_millis(100);

/// What to show, and how often.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// What to begin with
    #[arg(long, value_enum, default_value_t = View::Services)]
    view: View,
    /// Seconds between two looks, and of which rates are the mean
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Only rows that contain this text
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Print it once, as a plain table; so it is where standard output is no terminal
    #[arg(long)]
    once: bool,
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum View {
    /// Services.
    Services,
    /// Servers of all services.
    Servers,
    /// Workers of the data plane.
    Workers,
    /// Ports of the data plane.
    Ports,
    /// Why packets were dropped.
    Drops,
}

impl View {
    /// All of them, in the order of their keys.
    const ALL: [View; 5] = [View::Services, View::Servers, View::Workers, View::Ports, View::Drops];

    fn name(self) -> &'static str {
        match self {
            View::Services => "services",
            View::Servers => "servers",
            View::Workers => "workers",
            View::Ports => "ports",
            View::Drops => "drops",
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds, such as 0.5".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err("0.1 to 3600 seconds".to_owned())
}

/// Does it.
pub async fn run(global: &Global, arguments: Arguments, out: &mut Output<'_>) -> Result<(), Failure> {
    let sampler = Sampler::new(&global.door);
    if !global.json && !arguments.once && stdout().is_terminal() {
        return live(sampler, arguments).await;
    }
    let shown = twice(sampler, arguments.interval).await?;
    if global.json {
        return Ok(out.json(&json(&shown))?);
    }
    let table = Table::of(arguments.view, &shown, None).containing(&arguments.filter);
    Ok(table.print(out)?)
}

/// Two looks, the second an interval later: rates need both.
async fn twice(mut sampler: Sampler, interval: Duration) -> Result<Shown, Failure> {
    let first = sampler.look().await?;
    sleep(interval).await;
    let second = sampler.look().await?;
    Ok(Shown::default().with(first).with(second))
}

/// Every table.
fn json(shown: &Shown) -> Value {
    let tables = View::ALL.map(|view| (view.name().to_owned(), Table::of(view, shown, None).json()));
    let mut all = Map::new();
    all.insert("in_sync".to_owned(), shown.is_in_sync().into());
    all.extend(tables);
    Value::Object(all)
}

/// In the terminal, until a key, a signal, or the terminal's end.
async fn live(sampler: Sampler, arguments: Arguments) -> Result<(), Failure> {
    let (mut terminate, mut hang_up) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut screen = Screen::new(arguments.view, arguments.filter);
    let mut terminal = ratatui::try_init()?;
    let (mut keys, mut samples) = (keys(), samples(sampler, arguments.interval));
    let ended = loop {
        if let Err(error) = terminal.draw(|frame| draw::draw(frame, &mut screen)) {
            break Err(error.into());
        }
        tokio::select! {
            event = keys.recv() => match event {
                Some(Ok(event)) => if screen.handle(&event) == Flow::Quit { break Ok(()) },
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(()),
            },
            Some(sample) = samples.recv() => screen.take(sample),
            _ = terminate.recv() => break Ok(()),
            _ = hang_up.recv() => break Ok(()),
        }
    };
    // Whatever it was that ended it: the terminal is given back first.
    ratatui::try_restore()?;
    ended
}

/// Keys, and changes of the terminal's size, as they come.
fn keys() -> mpsc::Receiver<std::io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(16);
    thread::spawn(move || {
        while !sender.is_closed() {
            let event = match event::poll(KEY) {
                Ok(true) => event::read(),
                Ok(false) => continue,
                Err(error) => Err(error),
            };
            let failed = event.is_err();
            if sender.blocking_send(event).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// Looks as they come, or why there is none; a control that was restarted is found again.
fn samples(mut sampler: Sampler, interval: Duration) -> mpsc::Receiver<Result<Sample, String>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while sender.send(sampler.look().await.map_err(|failure| failure.to_string())).await.is_ok() {
            sleep(interval).await;
        }
    });
    receiver
}

#[cfg(test)]
mod tests;
