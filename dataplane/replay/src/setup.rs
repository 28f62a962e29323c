//! The file of `--ipvsadm`: commands that are applied on top of the configuration, at the start or before a frame.

use std::path::{Path, PathBuf};

use fulcrum_model::{Edit, Family, Settings, State, iptables, ipvsadm};

/// A line that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {message}", path.display())]
pub struct SetupError {
    /// The file.
    pub path: PathBuf,
    /// 1-based number of the line.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// One line of the file.
#[derive(Clone, Debug)]
pub struct Command {
    /// 1-based number of the line.
    pub line: usize,
    /// 1-based number of the frame before which it is applied.
    pub before: u64,
    /// What it changes.
    pub edits: Vec<Edit>,
}

/// Reads the text of a set-up file; commands come in the order in which they are applied. `state` knows the
/// interfaces that rules may name.
pub fn parse(path: &Path, text: &str, state: &State) -> Result<Vec<Command>, SetupError> {
    let mut commands = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        let wrong = |message| SetupError { path: path.to_owned(), line: number, message };
        let (before, rest) = split_frame(text.trim()).map_err(wrong)?;
        if rest.is_empty() || rest.starts_with('#') {
            continue;
        }
        commands.push(Command { line: number, before, edits: edits(rest, state).map_err(wrong)? });
    }
    // Stable: lines for one frame stay in their order.
    commands.sort_by_key(|command| command.before);
    Ok(commands)
}

/// Splits `@N rest`; without it a line is for the first frame.
fn split_frame(text: &str) -> Result<(u64, &str), String> {
    let Some(at) = text.strip_prefix('@') else { return Ok((1, text)) };
    let (number, rest) = at.split_once(char::is_whitespace).unwrap_or((at, ""));
    match number.parse() {
        Ok(frame) if frame > 0 => Ok((frame, rest.trim_start())),
        _ => Err(format!("`@{number}` is no frame number; such as `@3 -a …` for just before frame 3")),
    }
}

/// What one command changes.
pub fn edits(text: &str, state: &State) -> Result<Vec<Edit>, String> {
    match text.split_whitespace().next() {
        Some("sysctl") => setting(text).map(|edit| vec![edit]),
        Some("iptables") => marks(Family::V4, text, state),
        Some("ip6tables") => marks(Family::V6, text, state),
        _ => ipvsadm::edits(text).map_err(|e| e.to_string()),
    }
}

/// `sysctl -w net.ipv4.vs.NAME=VALUE`.
fn setting(text: &str) -> Result<Edit, String> {
    let words = text.split_whitespace().skip(1);
    let assignments: Vec<&str> = words.filter(|word| !word.starts_with('-')).collect();
    let usage = "sysctl takes one setting, such as `sysctl -w net.ipv4.vs.sloppy_tcp=1`";
    let [assignment] = assignments[..] else { return Err(usage.to_owned()) };
    let (name, value) = assignment.split_once('=').ok_or(usage)?;
    let known = name.strip_prefix("net.ipv4.vs.").or((name == "net.ipv4.ip_forward").then_some("ip_forward"));
    let name = known.unwrap_or(name);
    // Whether it can be set does not depend on the others.
    Settings::default().set(name, value).map_err(|bad| bad.to_string())?;
    Ok(Edit::SetSetting { name: name.to_owned(), value: value.to_owned() })
}

/// A rule that marks packets, as a script gives it to iptables.
fn marks(family: Family, text: &str, state: &State) -> Result<Vec<Edit>, String> {
    let mut import = iptables::parse(family, text).map_err(|bad| match &bad[..] {
        [line, ..] => line.why.clone(),
        [] => "no rule".to_owned(),
    })?;
    import.name_interfaces(state);
    if import.rules.is_empty() {
        return Err("this marks nothing; such as `iptables -t mangle -A PREROUTING … -j MARK --set-mark 1`"
            .to_owned());
    }
    Ok(import.rules.into_iter().map(|rule| Edit::AddMark(rule, None)).collect())
}
