//! The file of `--ipvsadm`: commands that are applied on top of the configuration, at the start or before a frame.

use std::path::{Path, PathBuf};

use fulcrum_model::{Edit, Settings, ipvsadm};

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
    /// What it does.
    pub action: Action,
}

/// What a line does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Changes in ipvsadm's grammar.
    Edits(Vec<Edit>),
    /// A behaviour switch.
    Setting(Setting),
}

/// `sysctl -w net.ipv4.vs.NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    name: String,
    value: u8,
}

impl Setting {
    /// The settings with this one changed.
    pub fn applied(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        let on = self.value != 0;
        match self.name.as_str() {
            "expire_nodest_conn" => settings.expire_nodest_conn = on,
            "conn_reuse_mode" => settings.conn_reuse_mode = self.value,
            "expire_quiescent_template" => settings.expire_quiescent_template = on,
            "sloppy_tcp" => settings.sloppy_tcp = on,
            "nat_icmp_send" => settings.nat_icmp_send = on,
            "ip_forward" => settings.ip_forward = on,
            _ => {}
        }
        settings
    }
}

/// The names that [`Setting`] takes.
const SETTINGS: [&str; 6] = [
    "expire_nodest_conn",
    "conn_reuse_mode",
    "expire_quiescent_template",
    "sloppy_tcp",
    "nat_icmp_send",
    "ip_forward",
];

/// Reads the text of a set-up file; commands come in the order in which they are applied.
pub fn parse(path: &Path, text: &str) -> Result<Vec<Command>, SetupError> {
    let mut commands = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        let wrong = |message| SetupError { path: path.to_owned(), line: number, message };
        let (before, rest) = split_frame(text.trim()).map_err(wrong)?;
        if rest.is_empty() || rest.starts_with('#') {
            continue;
        }
        commands.push(Command { line: number, before, action: action(rest).map_err(wrong)? });
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

/// What one command does.
pub fn action(text: &str) -> Result<Action, String> {
    let mut words = text.split_whitespace();
    if words.next() != Some("sysctl") {
        return ipvsadm::edits(text).map(Action::Edits).map_err(|e| e.to_string());
    }
    let assignments: Vec<&str> = words.filter(|word| !word.starts_with('-')).collect();
    let usage = "sysctl takes one setting, such as `sysctl -w net.ipv4.vs.sloppy_tcp=1`";
    let [assignment] = assignments[..] else { return Err(usage.to_owned()) };
    let (name, value) = assignment.split_once('=').ok_or(usage)?;
    let known = name.strip_prefix("net.ipv4.vs.").or((name == "net.ipv4.ip_forward").then_some("ip_forward"));
    let Some(known) = known.filter(|known| SETTINGS.contains(known)) else {
        return Err(format!("there is no setting `{name}`; net.ipv4.vs has {}", SETTINGS.join(", ")));
    };
    let value = value
        .parse()
        .map_err(|_| format!("`{value}` is no value of {name}; a small number such as 0 or 1"))?;
    Ok(Action::Setting(Setting { name: known.to_owned(), value }))
}
