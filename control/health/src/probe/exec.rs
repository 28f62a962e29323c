//! `exec`: a program whose exit code is the answer. No shell is involved.

use std::io;
use std::process::{ExitStatus, Stdio};

use fulcrum_model::EXEC_VIP_WORDS;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::{Asked, Trouble, bad, quoted};
use crate::path::words;
use crate::target::Target;

/// How much a program may say before its words are lost.
const SAID: usize = 4096;

pub(super) async fn ask(target: &Target, program: &str, arguments: &[String]) -> Asked {
    let facts = facts(target);
    let mut command = Command::new(program);
    command
        .args(arguments.iter().map(|argument| filled_in(argument, &facts)))
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("FULCRUM_TIMEOUT", target.check.timeout.as_secs_f64().to_string())
        .envs(facts.iter().map(|fact| (fact.variable, &fact.value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child =
        command.spawn().map_err(|error| Trouble::Here(format!("{program}: {}", words(&error))))?;
    // Before the child is waited for, so that its number is still its own.
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let mut said = Vec::new();
    let listening = async {
        let (out, err) = tokio::join!(listen(out.as_mut()), listen(err.as_mut()));
        (out, err)
    };
    tokio::pin!(listening);
    // A child of its own may keep the pipes open for ever: its end counts, not theirs.
    let mut heard = None;
    let ended = loop {
        tokio::select! {
            biased;
            words = &mut listening, if heard.is_none() => heard = Some(words),
            ended = child.wait() => break ended,
        }
    };
    group.0 = None;
    if heard.is_none() {
        heard = tokio::time::timeout(std::time::Duration::from_millis(100), listening).await.ok();
    }
    if let Some((out, err)) = heard {
        said.extend(if out.is_empty() { err } else { out });
    }
    judge(ended.map_err(|error| Trouble::Here(format!("{program}: {}", words(&error))))?, &said)
}

fn judge(ended: ExitStatus, said: &[u8]) -> Asked {
    use std::os::unix::process::ExitStatusExt as _;
    let what = match (ended.code(), ended.signal()) {
        (Some(0), _) => return Ok(()),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => "ended without an exit code".to_owned(),
    };
    match quoted(said).as_str() {
        "``" => bad(what),
        said => bad(format!("{what}: {said}")),
    }
}

/// What a program is told of its target.
struct Fact {
    word: &'static str,
    variable: &'static str,
    value: String,
}

fn facts(target: &Target) -> Vec<Fact> {
    let fact = |word, variable, value| Fact { word, variable, value };
    let mut facts = vec![
        fact("{address}", "FULCRUM_ADDRESS", target.address.to_string()),
        fact("{port}", "FULCRUM_PORT", target.port.to_string()),
    ];
    if let Some(vip) = target.vip {
        facts.push(fact(EXEC_VIP_WORDS[0], "FULCRUM_VIP", vip.ip().to_string()));
        facts.push(fact(EXEC_VIP_WORDS[1], "FULCRUM_VIP_PORT", vip.port().to_string()));
    }
    facts
}

fn filled_in(argument: &str, facts: &[Fact]) -> String {
    facts.iter().fold(argument.to_owned(), |text, fact| text.replace(fact.word, &fact.value))
}

/// The beginning of what a program says, heard to its end so that it does not wait for a reader.
async fn listen(pipe: Option<&mut (impl AsyncRead + Unpin)>) -> Vec<u8> {
    let (mut said, mut buffer) = (Vec::new(), [0; 1024]);
    let Some(pipe) = pipe else { return said };
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) => return said,
            Ok(length) => said.extend(&buffer[..length.min(SAID.saturating_sub(said.len()))]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return said,
        }
    }
}

/// A program and its children, who are killed when nobody waits for them any more.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // None of them is left in most cases.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}
