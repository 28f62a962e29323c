//! What is known of servers, kept over a restart: who is down, which quorum is lost, who is on the way back.
//!
//! A file beside the stored state. It is no part of that: what it says is found out again before long, so it is not
//! waited for until it is on the disk, and a file that cannot be read is as good as none.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fulcrum_model::State;
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Verdict;
use super::memory::{Memory, Phase, ServerMemory, ServiceMemory};

/// The file, and what it holds.
#[derive(Debug)]
pub struct Remembered {
    path: PathBuf,
    written: File,
}

/// What is known, by the names of services. Times are milliseconds since 1970.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    services: BTreeMap<String, Service>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Service {
    quorum_lost: Option<u64>,
    servers: BTreeMap<String, Server>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Server {
    down: Option<u64>,
    why: String,
    warming: Option<u64>,
}

impl Remembered {
    /// The file beside the stored state at `store`, and what it knows of the servers of `state`.
    pub fn load(store: &Path, state: &State, now: SystemTime) -> (Remembered, Memory) {
        let mut name = store.as_os_str().to_owned();
        name.push(".verdicts");
        let path = PathBuf::from(name);
        let written = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(File::default()),
            Err(error) => Err(error),
        };
        let written = written.unwrap_or_else(|error| {
            warn!(file = %path.display(), %error, "what was known of servers is lost; they count as up until they are checked");
            File::default()
        });
        let memory = written.recall(state, now);
        (Remembered { path, written }, memory)
    }

    /// Keeps what is known, if it is not what the file says already.
    pub fn keep(&mut self, memory: &Memory) {
        let file = File::of(memory);
        if file == self.written {
            return;
        }
        match file.write(&self.path) {
            Ok(()) => self.written = file,
            Err(error) => warn!(file = %self.path.display(), %error, "cannot keep what is known of servers"),
        }
    }
}

impl File {
    fn of(memory: &Memory) -> File {
        let mut services = BTreeMap::new();
        for (key, known) in &memory.services {
            let servers = known.servers.iter().filter_map(|(key, server)| {
                let down = (server.verdict == Verdict::Down).then(|| millis(server.since?)).flatten();
                let warming = server.warming.and_then(millis);
                let why = if down.is_some() { server.why.clone() } else { String::new() };
                (down.is_some() || warming.is_some())
                    .then(|| (key.to_string(), Server { down, why, warming }))
            });
            let servers: BTreeMap<_, _> = servers.collect();
            let quorum_lost = known.quorum_lost.and_then(millis);
            if quorum_lost.is_some() || !servers.is_empty() {
                services.insert(key.to_string(), Service { quorum_lost, servers });
            }
        }
        File { services }
    }

    fn recall(&self, state: &State, now: SystemTime) -> Memory {
        let mut memory = Memory::default();
        if self.services.is_empty() {
            return memory;
        }
        for service in &state.services {
            let Some(known) = self.services.get(&service.key.to_string()) else { continue };
            let quorum_lost = known.quorum_lost.and_then(|millis| time(millis, now));
            let sorry = quorum_lost.is_some() && service.health.sorry_server.is_some();
            let mut servers = HashMap::new();
            for server in &service.servers {
                let Some(known) = known.servers.get(&server.key.to_string()) else { continue };
                let new = ServerMemory::new(Phase::of(server.admin, now));
                let since = known.down.and_then(|millis| time(millis, now));
                let verdict = if since.is_some() { Verdict::Down } else { Verdict::Unknown };
                let warming = known.warming.and_then(|millis| time(millis, now));
                let why = known.why.clone();
                servers.insert(server.key, ServerMemory { verdict, since, why, warming, ..new });
            }
            memory.services.insert(service.key, ServiceMemory { quorum_lost, weight: 0, sorry, servers });
        }
        memory
    }

    /// A reader, and whoever comes after a crash, sees the old file or the new one.
    fn write(&self, path: &Path) -> io::Result<()> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        std::fs::write(&new, serde_json::to_vec(self)?)?;
        std::fs::rename(&new, path)
    }
}

fn millis(time: SystemTime) -> Option<u64> {
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// A time of the past; one of the future, as after a clock was set back, is now.
fn time(millis: u64, now: SystemTime) -> Option<SystemTime> {
    Some(UNIX_EPOCH.checked_add(Duration::from_millis(millis))?.min(now))
}
