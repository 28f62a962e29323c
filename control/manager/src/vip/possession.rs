//! Which VIPs the director has: all, until somebody says otherwise, or those that somebody took.
//!
//! What was said is kept in a file beside the stored state, for as long as the machine runs: after a boot whoever takes
//! and releases VIPs says so again, and two directors must not have one meanwhile. Nothing of it is desired state; it
//! is put on top of what the data plane is given.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use fulcrum_api::fingerprint;
use fulcrum_model::{State, VipOwner};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use crate::desired::Revision;

/// Another one each time the machine starts.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// Why VIPs were not taken or released. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum VipError {
    /// It is nobody's.
    #[error("no service has the VIP {0}; those that there are: {1}")]
    Unknown(IpAddr, String),
    /// It could not be kept.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The file: what was said of VIPs since the machine started; true: taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    boot: String,
    vips: BTreeMap<IpAddr, bool>,
    /// Who said so.
    #[serde(default)]
    by: BTreeMap<IpAddr, Saying>,
}

/// Who said last whether the director has a VIP, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saying {
    /// In words.
    pub by: String,
    /// Milliseconds since 1970.
    pub since_ms: u64,
}

/// Which VIPs the director has.
#[derive(Clone, Debug)]
pub struct Possession(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    owner: VipOwner,
    path: PathBuf,
    said: Mutex<Said>,
    wanted: watch::Receiver<Revision>,
    publish: watch::Sender<Revision>,
}

impl Possession {
    /// On top of what the data plane would be given otherwise, beside the stored state at `store`.
    pub fn new(owner: VipOwner, store: &Path, wanted: watch::Receiver<Revision>) -> Possession {
        let mut name = store.as_os_str().to_owned();
        name.push(".vips");
        let path = PathBuf::from(name);
        let said = load(&path);
        let revision = wanted.borrow().clone();
        let publish = watch::Sender::new(on_top(&revision, owner, &said));
        Possession(Arc::new(Inner { owner, path, said: Mutex::new(said), wanted, publish }))
    }

    /// What the data plane is to be given, now and from now on. Its numbers are those of what it is made of.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.0.publish.subscribe()
    }

    /// Follows what it is made of until it is dropped.
    pub async fn run(&self) {
        let mut wanted = self.0.wanted.clone();
        // A sender that is gone means the end of the process.
        while wanted.changed().await.is_ok() {
            drop(wanted.borrow_and_update());
            self.publish(&self.said());
        }
    }

    /// Whether the director has this VIP.
    pub fn has(&self, vip: IpAddr) -> bool {
        has(self.0.owner, &self.said(), vip)
    }

    /// Who said so; `None` where nobody has said anything since the machine started.
    pub fn saying(&self, vip: IpAddr) -> Option<Saying> {
        self.said().by.get(&vip).cloned()
    }

    /// Whether it has those alone that somebody took.
    pub fn manual(&self) -> bool {
        self.0.owner == VipOwner::Manual
    }

    /// A state as the data plane is given it: with the VIPs withheld that the director does not have.
    pub fn on_top(&self, state: &Arc<State>) -> Arc<State> {
        withhold(state, self.0.owner, &self.said()).unwrap_or_else(|| state.clone())
    }

    /// Takes or releases VIPs, all or none, as `by` says; gives back what the data plane is given then.
    pub fn say(&self, vips: &[IpAddr], taken: bool, by: &str) -> Result<Revision, VipError> {
        let known = vips_of(&self.0.wanted.borrow().state);
        if let Some(unknown) = vips.iter().find(|vip| !known.contains(vip)) {
            return Err(VipError::Unknown(*unknown, listed(&known)));
        }
        let mut said = self.said();
        let mut now = said.clone();
        let since_ms = now_ms();
        for vip in vips {
            if now.vips.insert(*vip, taken) != Some(taken) {
                now.by.insert(*vip, Saying { by: by.to_owned(), since_ms });
            }
        }
        if now != *said {
            write(&self.0.path, &now)
                .map_err(|source| VipError::Write { path: self.0.path.clone(), source })?;
            *said = now;
        }
        self.publish(&said);
        Ok(self.0.publish.borrow().clone())
    }

    fn publish(&self, said: &Said) {
        let revision = self.0.wanted.borrow().clone();
        let now = on_top(&revision, self.0.owner, said);
        self.0.publish.send_if_modified(|published| {
            let news = published.number != now.number || published.state != now.state;
            if news {
                *published = now;
            }
            news
        });
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The VIPs of a state's services.
pub fn vips_of(state: &State) -> BTreeSet<IpAddr> {
    state.services.iter().filter_map(|service| service.key.address()).collect()
}

fn listed(vips: &BTreeSet<IpAddr>) -> String {
    let mut words: Vec<String> = vips.iter().take(5).map(IpAddr::to_string).collect();
    match vips.len() {
        0 => return "none".to_owned(),
        more if more > words.len() => words.push(format!("and {} more", more - words.len())),
        _ => {}
    }
    words.join(", ")
}

fn has(owner: VipOwner, said: &Said, vip: IpAddr) -> bool {
    said.vips.get(&vip).copied().unwrap_or(owner == VipOwner::Always)
}

/// The revision with the VIPs withheld that the director does not have.
fn on_top(revision: &Revision, owner: VipOwner, said: &Said) -> Revision {
    match withhold(&revision.state, owner, said) {
        Some(state) => Revision { number: revision.number, fingerprint: fingerprint(&state), state },
        None => revision.clone(),
    }
}

/// The state with the VIPs withheld that the director does not have; `None` when it is so already.
fn withhold(state: &State, owner: VipOwner, said: &Said) -> Option<Arc<State>> {
    let withheld = |vip: Option<IpAddr>| vip.is_some_and(|vip| !has(owner, said, vip));
    if state.services.iter().all(|service| withheld(service.key.address()) == service.withheld) {
        return None;
    }
    let mut state = state.clone();
    for service in &mut state.services {
        service.withheld = withheld(service.key.address());
    }
    Some(Arc::new(state))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What was said since the machine started; a file that cannot be read is as good as none.
fn load(path: &Path) -> Said {
    let boot = std::fs::read_to_string(BOOT).unwrap_or_default().trim().to_owned();
    let read = match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice::<Said>(&bytes).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Said::default()),
        Err(error) => Err(error),
    };
    match read {
        Ok(said) if said.boot == boot => said,
        Ok(_) => Said { boot, ..Said::default() },
        Err(error) => {
            warn!(file = %path.display(), %error, "it is not known any more which VIPs were taken and released");
            Said { boot, ..Said::default() }
        }
    }
}

/// A reader, and whoever comes after a crash, sees the old file or the new one.
fn write(path: &Path, said: &Said) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, serde_json::to_vec(said)?)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use fulcrum_model::{Protocol, Service, ServiceKey};

    use super::*;

    const A: &str = "10.0.0.1";
    const B: &str = "2001:db8::1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn revision(number: u64, services: &[(&str, u16)]) -> Revision {
        let service =
            |(vip, port): &(&str, u16)| Service::new(ServiceKey::new(Protocol::Tcp, ip(vip), *port), "rr");
        let state = State { services: services.iter().map(service).collect(), ..State::default() };
        Revision { number, fingerprint: fingerprint(&state), state: Arc::new(state) }
    }

    fn withheld(possession: &Possession) -> Vec<(String, bool)> {
        let given = possession.revisions().borrow().clone();
        assert_eq!(given.fingerprint, fingerprint(&given.state));
        let services = given.state.services.iter();
        services.map(|service| (service.key.address().unwrap().to_string(), service.withheld)).collect()
    }

    #[tokio::test]
    async fn what_was_said_of_a_vip_holds_for_all_its_services_and_over_restarts_but_not_over_boots() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("state.toml");
        let wanted = watch::Sender::new(revision(1, &[(A, 80), (B, 80)]));
        let possession = Possession::new(VipOwner::Always, &store, wanted.subscribe());
        assert!(Arc::ptr_eq(&possession.revisions().borrow().state, &wanted.borrow().state), "as it was");

        let given = possession.say(&[ip(A)], false, "uid 0").unwrap();
        assert_eq!(given.number, 1);
        assert_eq!(withheld(&possession), [(A.to_owned(), true), (B.to_owned(), false)]);
        assert!(!possession.has(ip(A)) && possession.has(ip(B)));

        let mut told = possession.revisions();
        tokio::select! {
            () = possession.run() => {}
            () = async {
                wanted.send_replace(revision(2, &[(A, 80), (A, 443)]));
                told.wait_for(|revision| revision.number == 2).await.unwrap();
            } => {}
        }
        assert_eq!(withheld(&possession), [(A.to_owned(), true), (A.to_owned(), true)]);

        let again = Possession::new(VipOwner::Always, &store, wanted.subscribe());
        assert!(!again.has(ip(A)));
        assert_eq!(again.saying(ip(A)).map(|saying| saying.by).as_deref(), Some("uid 0"));
        assert_eq!(again.saying(ip(B)), None);
        let desired = wanted.borrow().state.clone();
        assert!(again.on_top(&desired).services.iter().all(|service| service.withheld));
        again.say(&[ip(A)], true, "uid 7").unwrap();
        let manual = Possession::new(VipOwner::Manual, &store, wanted.subscribe());
        assert!(manual.has(ip(A)) && !manual.has(ip(B)));

        let file = dir.path().join("state.toml.vips");
        let text = std::fs::read_to_string(&file).unwrap();
        let boot = std::fs::read_to_string(BOOT).unwrap();
        std::fs::write(&file, text.replace(boot.trim(), "another")).unwrap();
        assert!(!Possession::new(VipOwner::Manual, &store, wanted.subscribe()).has(ip(A)));
        std::fs::write(&file, "rubbish").unwrap();
        assert!(Possession::new(VipOwner::Always, &store, wanted.subscribe()).has(ip(A)));
    }

    #[test]
    fn a_vip_that_no_service_has_is_refused_and_nothing_changes() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = watch::Sender::new(revision(1, &[(A, 80)]));
        let possession = Possession::new(VipOwner::Always, &dir.path().join("state"), wanted.subscribe());
        let error = possession.say(&[ip(A), ip("10.0.0.2")], false, "uid 0").unwrap_err().to_string();
        assert_eq!(error, "no service has the VIP 10.0.0.2; those that there are: 10.0.0.1");
        assert!(possession.has(ip(A)));
        assert!(!dir.path().join("state.vips").exists());
    }
}
