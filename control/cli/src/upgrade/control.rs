//! `fulcrum upgrade control`: fulcrum-control is started again, which traffic does not notice.

use std::time::Instant;

use fulcrum_api::control::{Process, Status};
use serde_json::json;
use tokio::time::sleep;

use super::report::Report;
use super::restart::Way;
use super::{Arguments, LOOK, look};
use crate::client::Client;
use crate::command::Global;
use crate::failure::Failure;

/// Does it.
pub(super) async fn upgrade(
    global: &Global,
    arguments: &Arguments,
    mut client: Client,
    report: &mut Report<'_, '_>,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let before = client.status().await?;
    let control = before.control.clone().unwrap_or_default();
    let pid = global.door.director.is_none().then_some(control.pid);
    let installed = match pid {
        Some(pid) => look::installed("fulcrum-control", pid).await.map(|(_, version)| version),
        None => None,
    };
    let dataplane = before.dataplane.as_ref().map_or("", |dataplane| &dataplane.version);
    let starts = ("fulcrum-control", control.version.as_str(), installed.as_deref());
    let versions = look::versions(starts, ("fulcrum-dataplane", dataplane))
        .map_err(|why| Failure::Invalid(format!("{why}\nnothing was done")))?;
    report.say("versions", &versions, json!({ "running": control.version, "installed": installed }))?;
    let way = match (&arguments.command, arguments.no_restart) {
        (Some(command), _) => Way::Command(command.clone()),
        (None, true) => Way::Elsewhere("fulcrum-control"),
        (None, false) => Way::of(Process::Control, pid),
    };
    client.end(Process::Control, true).await?;
    if arguments.dry_run {
        report.tell("restart", &format!("would {way}"))?;
        return report.tell("dry run", "nothing was done");
    }
    report.tell("restart", &way.to_string())?;
    way.go(&mut client).await?;
    loop {
        let now = match global.client().await {
            Ok(mut client) => client.status().await,
            Err(failure) => Err(failure),
        };
        let missing = match &now {
            Ok(now) => missing(&before, now, begun),
            Err(failure) => Some(failure.to_string()),
        };
        let Some(missing) = missing else {
            let now = now?;
            let instance =
                |status: &Status| status.dataplane.as_ref().map(|dataplane| dataplane.instance.clone());
            let untouched = match instance(&now) == instance(&before) {
                true => "the data plane was not touched",
                false => "the data plane was started again meanwhile, by somebody else",
            };
            let version = now.control.unwrap_or_default().version;
            let text = format!("fulcrum-control {version} runs; {untouched}");
            report.say("done", &text, json!({ "version": version }))?;
            return Ok(());
        };
        if begun.elapsed() >= arguments.timeout {
            let seconds = arguments.timeout.as_secs();
            return Err(Failure::Invalid(format!(
                "not well after {seconds} s: {missing}\nthe data plane goes on as it is; journalctl -u fulcrum-control says \
                 why. To go back, install the version from before and start it"
            )));
        }
        report.tell("waiting", &missing)?;
        sleep(LOOK).await;
    }
}

/// What is not as it should be after a start.
fn missing(before: &Status, now: &Status, begun: Instant) -> Option<String> {
    let (was, is) = (before.control.clone().unwrap_or_default(), now.control.clone().unwrap_or_default());
    // In a container every process has the same number.
    let since = u128::from(is.uptime_ms);
    let same = was.pid == is.pid && since > begun.elapsed().as_millis();
    if same {
        return Some("fulcrum-control has not ended yet".to_owned());
    }
    let Some(held) = &before.dataplane else { return None };
    let Some(dataplane) = &now.dataplane else {
        return Some("it does not know the data plane yet".to_owned());
    };
    if dataplane.instance != held.instance {
        return None;
    }
    let link = now.link.clone().unwrap_or_default();
    (!link.in_sync).then(|| format!("the data plane does not hold the desired state: {}", link.last_error))
}
