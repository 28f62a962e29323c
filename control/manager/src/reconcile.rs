//! Keeps the data plane in the desired state.
//!
//! Level-triggered: every round asks what the data plane holds and pushes what is missing, whatever the reason
//! (it was restarted, somebody else programmed it, the desired state changed). A round comes with each change
//! and every [`POLL`]. Nothing is pushed when both ends have the same fingerprint already.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fulcrum_api::dataplane::dataplane_client::DataplaneClient;
use fulcrum_api::dataplane::{
    DataplaneStatus, GetStatusRequest, SyncBegin, SyncCommit, SyncPart, SyncReply, sync_part,
};
use fulcrum_api::state::Change;
use fulcrum_api::version::too_far;
use fulcrum_api::{changes, difference, socket};
use fulcrum_model::State;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tracing::{info, warn};

use crate::desired::Revision;

/// Between two looks at the data plane.
pub const POLL: Duration = Duration::from_millis(500);

/// Between two attempts to reach it.
const RETRY: Duration = Duration::from_millis(100);

/// After a push that it refused, unless the desired state changes earlier.
const AFTER_REFUSAL: Duration = Duration::from_secs(2);

/// It answers a question within this time, or it is taken for lost.
pub const ANSWER: Duration = Duration::from_secs(3);

/// It takes in a state within this time.
const PUSH: Duration = Duration::from_secs(60);

/// Its workers run a new state within this time; longer than this nobody waits for them.
const TAKE_UP: Duration = Duration::from_millis(200);

/// How the connection to the data plane is.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// Present while it answers.
    pub channel: Option<Channel>,
    /// What it last told about itself.
    pub status: Option<DataplaneStatus>,
    /// Whether it holds the desired state, as far as is known.
    pub in_sync: bool,
    /// Number of the last revision that was brought to it, whether it took it or not.
    pub attempted: u64,
    /// Fingerprint of the last state that it was found to hold or was brought.
    pub brought: u64,
    /// Generation of the desired state there.
    pub generation: u64,
    /// What went wrong last and has not gone right since.
    pub error: Option<(String, Instant)>,
    /// Whole states pushed.
    pub full_pushes: u64,
    /// Sets of changes pushed.
    pub increments: u64,
    /// Times it held something else than it was given.
    pub repairs: u64,
    /// How long the last push took, until the workers ran it.
    pub took: Duration,
}

/// What the data plane was last known to hold.
#[derive(Debug)]
struct Held {
    instance: String,
    generation: u64,
    fingerprint: u64,
    state: Arc<State>,
}

impl Held {
    fn is_held_by(&self, status: &DataplaneStatus) -> bool {
        (self.instance.as_str(), self.generation, self.fingerprint)
            == (status.instance.as_str(), status.generation, status.fingerprint)
    }
}

/// The one who keeps it so.
#[derive(Debug)]
pub struct Reconciler {
    socket: PathBuf,
    wanted: watch::Receiver<Revision>,
    link: watch::Sender<Link>,
    held: Option<Held>,
}

impl Reconciler {
    /// For the data plane at `socket`.
    pub fn new(socket: PathBuf, wanted: watch::Receiver<Revision>) -> Reconciler {
        Reconciler { socket, wanted, link: watch::Sender::new(Link::default()), held: None }
    }

    /// How the connection is, now and from now on.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Works until it is dropped.
    pub async fn run(mut self) {
        loop {
            let error = match socket::connect(&self.socket).await {
                Ok(channel) => self.follow(channel).await,
                Err(_) => format!("nothing answers at {}", self.socket.display()),
            };
            if self.link.borrow().channel.is_some() {
                warn!(error, "data plane lost");
            }
            self.link.send_modify(|link| {
                link.channel = None;
                link.status = None;
                link.in_sync = false;
                link.fail(error);
            });
            sleep(RETRY).await;
        }
    }

    /// Follows the data plane at the other end of `channel` until it is lost; says why.
    async fn follow(&mut self, channel: Channel) -> String {
        let mut client =
            DataplaneClient::new(channel.clone()).max_encoding_message_size(socket::MESSAGE_LIMIT);
        loop {
            let status = match timeout(ANSWER, client.get_status(GetStatusRequest::default())).await {
                Ok(Ok(reply)) => reply.into_inner(),
                Ok(Err(status)) => return format!("no status from the data plane: {}", status.message()),
                Err(_) => return format!("the data plane did not answer within {} s", ANSWER.as_secs()),
            };
            let wanted = self.wanted.borrow_and_update().clone();
            self.look(&channel, &status);
            let mut pause = POLL;
            if let Some(why) = apart(env!("CARGO_PKG_VERSION"), &status.version) {
                self.refuses(why, wanted.number);
                pause = AFTER_REFUSAL;
            } else if self.agrees(&status, &wanted) {
                self.settle(&status.instance, status.generation, status.fingerprint, &wanted);
            } else {
                let begun = Instant::now();
                let push = self.plan(&status, &wanted);
                match timeout(PUSH, client.synchronize(tokio_stream::iter(push.parts))).await {
                    Ok(Ok(reply)) => {
                        let SyncReply { generation, fingerprint } = reply.into_inner();
                        let services = wanted.state.services.len();
                        info!(
                            generation,
                            services,
                            full = push.full,
                            changes = push.changes,
                            "data plane programmed"
                        );
                        if fingerprint != wanted.fingerprint {
                            warn!("the data plane computes another fingerprint; is it of another version?");
                        }
                        self.link.send_modify(|link| {
                            *if push.full { &mut link.full_pushes } else { &mut link.increments } += 1;
                        });
                        taken_up(&mut client, generation).await;
                        self.link.send_modify(|link| link.took = begun.elapsed());
                        self.settle(&status.instance, generation, fingerprint, &wanted);
                    }
                    Ok(Err(error)) if is_lost(&error) => return format!("lost while programming: {error}"),
                    Ok(Err(error)) => {
                        pause = if error.code() == Code::FailedPrecondition { RETRY } else { AFTER_REFUSAL };
                        self.refused(&error, wanted.number);
                    }
                    Err(_) => {
                        return format!("the data plane took longer than {} s to program", PUSH.as_secs());
                    }
                }
            }
            // A sender that is gone means the end of the process: then only time wakes the loop.
            let _ = timeout(pause, self.wanted.changed()).await;
        }
    }

    /// Takes note of who is at the other end.
    fn look(&mut self, channel: &Channel, status: &DataplaneStatus) {
        let known = self.link.borrow().status.as_ref().map(|status| status.instance.clone());
        if known.as_deref() != Some(&status.instance) {
            let (pid, version, generation) = (status.pid, &status.version, status.generation);
            info!(pid, version, generation, "data plane connected");
        }
        if let Some(held) = &self.held
            && held.instance == status.instance
            && !held.is_held_by(status)
        {
            warn!(
                expected = held.generation,
                found = status.generation,
                "the data plane was programmed by somebody else"
            );
            self.held = None;
            self.link.send_modify(|link| link.repairs += 1);
        }
        self.link.send_modify(|link| {
            link.channel = Some(channel.clone());
            link.status = Some(status.clone());
        });
    }

    /// Whether the data plane holds the wanted state: it says so itself, or it still holds what it made of it.
    fn agrees(&self, status: &DataplaneStatus, wanted: &Revision) -> bool {
        status.generation != 0
            && (status.fingerprint == wanted.fingerprint
                || self.held.as_ref().is_some_and(|held| {
                    held.is_held_by(status)
                        && (Arc::ptr_eq(&held.state, &wanted.state) || held.state == wanted.state)
                }))
    }

    fn plan(&self, status: &DataplaneStatus, wanted: &Revision) -> Push {
        let base = self.held.as_ref().filter(|held| status.generation != 0 && held.is_held_by(status));
        let last = self.link.borrow().generation;
        // Whoever tampered may have left the last number there is: then they start again, at 1.
        let generation = status.generation.max(last).wrapping_add(1).max(1);
        match base {
            Some(held) => {
                Push::new(generation, Some(held.generation), difference(&held.state, &wanted.state))
            }
            None => Push::new(generation, None, changes(&wanted.state)),
        }
    }

    /// The data plane holds `wanted`.
    fn settle(&mut self, instance: &str, generation: u64, fingerprint: u64, wanted: &Revision) {
        let state = wanted.state.clone();
        self.held = Some(Held { instance: instance.to_owned(), generation, fingerprint, state });
        self.link.send_modify(|link| {
            link.in_sync = true;
            link.attempted = wanted.number;
            link.brought = wanted.fingerprint;
            link.generation = generation;
            link.error = None;
        });
    }

    fn refused(&mut self, error: &Status, revision: u64) {
        self.held = None;
        let text = format!("the data plane refused the state: {}", error.message());
        self.refuses(text, revision);
    }

    /// The data plane does not get the state of that revision.
    fn refuses(&mut self, why: String, revision: u64) {
        self.link.send_modify(|link| {
            link.in_sync = false;
            link.attempted = revision;
            if link.fail(why.clone()) {
                warn!("{why}");
            }
        });
    }
}

impl Link {
    /// Takes note of an error; false when it is the one that is known.
    fn fail(&mut self, text: String) -> bool {
        let new = self.error.as_ref().is_none_or(|(known, _)| *known != text);
        if new {
            self.error = Some((text, Instant::now()));
        }
        new
    }
}

/// One transaction for the data plane.
struct Push {
    full: bool,
    changes: usize,
    parts: Vec<SyncPart>,
}

impl Push {
    fn new(generation: u64, base: Option<u64>, changes: Vec<Change>) -> Push {
        use sync_part::Part;
        let begin = SyncBegin { generation, full: base.is_none(), base: base.unwrap_or(0) };
        let count = changes.len();
        let parts = std::iter::once(Part::Begin(begin))
            .chain(changes.into_iter().map(Part::Change))
            .chain(std::iter::once(Part::Commit(SyncCommit {})))
            .map(|part| SyncPart { part: Some(part) })
            .collect();
        Push { full: base.is_none(), changes: count, parts }
    }
}

/// Waits until the workers run `generation`: who was told that a change is in effect may rely on it. Should
/// they not get there, the status shows it.
async fn taken_up(client: &mut DataplaneClient<Channel>, generation: u64) {
    let all = async {
        while let Ok(status) = client.get_status(GetStatusRequest::default()).await
            && status.get_ref().acknowledged < generation
        {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let _ = timeout(TAKE_UP, all).await;
}

/// Why two programs of these versions do not go together.
fn apart(ours: &str, theirs: &str) -> Option<String> {
    too_far(ours, theirs).then(|| {
        format!(
            "the data plane is of version {theirs}, fulcrum-control of {ours}: at most one minor version may be between \
             them; it goes on as it is until one of the two is replaced"
        )
    })
}

/// Whether an error comes from the connection rather than from the data plane.
fn is_lost(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown)
}
