//! The desired state and everything that may change it: edits, whole states, the configuration file.
//!
//! A change is first stored, then announced: whoever follows [`Desired::revisions`] never sees a state that a
//! crash could take back.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fulcrum_api::fingerprint;
use fulcrum_model::file::{Config, read_text};
use fulcrum_model::{Admin, Edit, EditError, State, validate};
use tokio::sync::watch;

use crate::merge::merge;
use crate::store::{Store, StoreError, Stored};

/// A desired state; numbers grow with each change in the life of a process.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Which one.
    pub number: u64,
    /// The state.
    pub state: Arc<State>,
    /// Its fingerprint.
    pub fingerprint: u64,
}

/// Why a change was refused. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The edit of that number is wrong.
    #[error("{1}")]
    Edit(usize, EditError),
    /// The state would be wrong.
    #[error("{0}")]
    Invalid(String),
    /// The state could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the configuration file is not in effect.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It says something wrong.
    #[error("{0}")]
    Wrong(#[from] fulcrum_model::file::FileErrors),
    /// It is right in itself.
    #[error("{} does not go together with changes made at run time: {why} (`fulcrum apply {}` drops those)", path.display(), path.display())]
    Conflict {
        /// The file.
        path: PathBuf,
        /// What would be wrong.
        why: String,
    },
    /// What came out of it could not be stored.
    #[error(transparent)]
    Store(StoreError),
}

/// The desired state, kept.
#[derive(Debug)]
pub struct Desired {
    store: Store,
    file: Config,
    revisions: watch::Sender<Revision>,
}

impl Desired {
    /// The state to begin with: what is stored, or else what the file says.
    pub fn new(store: Store, stored: Stored) -> Desired {
        let Stored { desired, file } = stored;
        let first = Revision { number: 1, fingerprint: fingerprint(&desired), state: Arc::new(desired) };
        Desired { store, file, revisions: watch::Sender::new(first) }
    }

    /// The state now and from now on.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revisions.subscribe()
    }

    /// The state now.
    pub fn current(&self) -> Revision {
        self.revisions.borrow().clone()
    }

    /// The configuration file as last taken in.
    pub fn file(&self) -> &Config {
        &self.file
    }

    /// Where the state is stored.
    pub fn store_path(&self) -> &Path {
        self.store.path()
    }

    /// Applies edits, all or none; gives back the revision that has them.
    pub fn edit(&mut self, edits: &[Edit]) -> Result<u64, ChangeError> {
        let mut state = State::clone(&self.current().state);
        state.apply_all(edits).map_err(|(at, error)| ChangeError::Edit(at, error))?;
        Ok(self.put(state, self.file.clone())?)
    }

    /// What [`Desired::replace`] would make of a state: servers about which it says nothing else keep their admin
    /// states.
    pub fn with_admin_states(&self, mut state: State) -> State {
        let current = self.current().state;
        let drained = current.services.iter().flat_map(|service| {
            let servers = service.servers.iter().filter(|server| server.admin != Admin::Enabled);
            servers.map(|server| ((service.key, server.key), server.admin))
        });
        let drained: HashMap<_, _> = drained.collect();
        if drained.is_empty() {
            return state;
        }
        for service in &mut state.services {
            for server in service.servers.iter_mut().filter(|server| server.admin == Admin::Enabled) {
                server.admin = drained.get(&(service.key, server.key)).copied().unwrap_or_default();
            }
        }
        state
    }

    /// Replaces the whole state; gives back the revision that has it.
    pub fn replace(&mut self, state: State) -> Result<u64, ChangeError> {
        let state = self.with_admin_states(state);
        valid(&state).map_err(ChangeError::Invalid)?;
        Ok(self.put(state, self.file.clone())?)
    }

    /// Takes in what the configuration file at `path` says now: its changes since it was last taken in win,
    /// what was changed at run time otherwise stays.
    pub fn take_file(&mut self, path: &Path, file: Config) -> Result<u64, FileError> {
        let merged = merge(&self.file.state, &self.current().state, &file.state);
        valid(&merged).map_err(|why| FileError::Conflict { path: path.to_owned(), why })?;
        self.put(merged, file).map_err(FileError::Store)
    }

    fn put(&mut self, state: State, file: Config) -> Result<u64, StoreError> {
        let current = self.current();
        if *current.state == state && self.file == file {
            return Ok(current.number);
        }
        let stored = Stored { desired: state, file };
        self.store.save(&stored)?;
        let Stored { desired, file } = stored;
        self.file = file;
        let next = Revision {
            number: current.number + 1,
            fingerprint: fingerprint(&desired),
            state: Arc::new(desired),
        };
        let number = next.number;
        self.revisions.send_replace(next);
        Ok(number)
    }
}

/// Reads the configuration file at `path`; `None` when there is none.
pub fn read_file(path: &Path) -> Result<Option<Config>, FileError> {
    match std::fs::File::open(path).and_then(read_text) {
        Ok(text) => Ok(Some(Config::parse(&path.display().to_string(), &text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::Unreadable { path: path.to_owned(), source }),
    }
}

fn valid(state: &State) -> Result<(), String> {
    let problems = validate::state(state);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.into_iter().map(|(_, p)| p.message).collect::<Vec<_>>().join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use fulcrum_model::{Forward, Protocol, Server, ServerKey, Service, ServiceKey};

    use super::*;

    fn service(port: u16) -> Service {
        Service::new(ServiceKey::new(Protocol::Tcp, Ipv4Addr::new(10, 0, 0, 1).into(), port), "rr")
    }

    fn file(text: &str) -> Config {
        Config::parse("test", text).unwrap()
    }

    fn open(path: &Path) -> Desired {
        let store = Store::open(path).unwrap();
        let stored = store.load().unwrap().unwrap_or_default();
        Desired::new(store, stored)
    }

    #[test]
    fn a_change_is_stored_before_it_is_announced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let mut desired = open(&path);
        let revisions = desired.revisions();
        assert_eq!(desired.edit(&[Edit::AddService(service(80))]).unwrap(), 2);
        assert_eq!(revisions.borrow().number, 2);
        assert_eq!(revisions.borrow().fingerprint, fingerprint(&desired.current().state));
        drop(desired);
        assert_eq!(open(&path).current().state.services, [service(80)]);
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut desired = open(&dir.path().join("state"));
        let two = [Edit::AddService(service(80)), Edit::AddService(service(80))];
        assert!(matches!(desired.edit(&two), Err(ChangeError::Edit(1, EditError::ServiceExists(_)))));
        let twice = State { services: vec![service(80), service(80)], ..State::default() };
        assert!(matches!(desired.replace(twice), Err(ChangeError::Invalid(_))));
        assert_eq!(desired.current().number, 1);
        assert!(desired.current().state.services.is_empty());
    }

    #[test]
    fn admin_states_survive_restarts_and_whole_states() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let key = ServerKey { address: Ipv4Addr::new(10, 0, 1, 1).into(), port: 80 };
        let whole = |weight| {
            let server = Server { weight, ..Server::new(key, Forward::Nat) };
            State { services: vec![Service { servers: vec![server], ..service(80) }], ..State::default() }
        };
        let mut desired = open(&path);
        desired.replace(whole(1)).unwrap();
        let admin = Admin::Drain { until: Some(1_900_000_000) };
        let drain = Edit::SetServerAdmin { service: None, address: key.address, port: None, admin };
        desired.edit(&[drain]).unwrap();
        drop(desired);
        let mut desired = open(&path);
        desired.replace(whole(2)).unwrap();
        let server = &desired.current().state.services[0].servers[0];
        assert_eq!((server.weight, server.admin), (2, admin));
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut desired = open(&dir.path().join("deep/state"));
        std::fs::remove_dir_all(dir.path().join("deep")).unwrap();
        assert!(matches!(desired.edit(&[Edit::AddService(service(80))]), Err(ChangeError::Store(_))));
        assert!(desired.current().state.services.is_empty());
    }

    #[test]
    fn the_file_and_run_time_changes_go_together_or_the_file_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let ground =
            "[[port]]\nname = \"lan\"\ndevice = \"eth1\"\n[[interface]]\nname = \"lan\"\nport = \"lan\"\n";
        let pool = "[[local-pool]]\nname = \"p\"\ninterface = \"lan\"\naddresses = [\"10.0.9.1\"]\n";
        let name = Path::new("fulcrum.toml");
        let mut desired = open(&path);
        desired.take_file(name, file(&format!("{ground}{pool}"))).unwrap();
        let user = Service { local_pool: Some("p".into()), ..service(80) };
        desired.edit(&[Edit::AddService(user.clone())]).unwrap();

        let error = desired.take_file(name, file(ground)).unwrap_err();
        assert!(error.to_string().contains("there is no local pool `p`"), "{error}");
        assert_eq!(desired.current().state.local_pools.len(), 1);

        let other = "[[service]]\naddress = \"10.0.0.1:81\"\nprotocol = \"tcp\"\nscheduler = \"rr\"\n";
        desired.take_file(name, file(&format!("{ground}{pool}{other}"))).unwrap();
        assert_eq!(desired.current().state.services, [service(81), user.clone()]);
        // The same after a restart: the file did not change, so nothing does.
        drop(desired);
        let mut desired = open(&path);
        assert_eq!(desired.take_file(name, file(&format!("{ground}{pool}{other}"))).unwrap(), 1);
        assert_eq!(desired.current().state.services, [service(81), user]);
    }
}
