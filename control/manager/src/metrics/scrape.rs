//! One look at everything: the desired state, and all that the data plane counts, asked for at once.

use std::time::{Duration, Instant};

use fulcrum_api::dataplane::dataplane_client::DataplaneClient;
use fulcrum_api::dataplane::{
    Counters, DataplaneStatus, GetStatusRequest, ListCountersRequest, ProcessUse, ServiceCounters,
};
use fulcrum_api::{process, socket};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;

use super::view::{Views, VipsView};
use crate::reconcile::Link;
use crate::verdict::keeper::Verdicts;
use crate::vip::announce::Board;
use crate::vip::possession::Possession;

/// The data plane has told everything within this time, or the scrape does without.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where it is looked.
#[derive(Clone, Debug)]
pub struct Source {
    /// The desired state, and what is known of its servers.
    pub verdicts: Verdicts,
    /// The connection to the data plane.
    pub link: watch::Receiver<Link>,
    /// Why the configuration file is not in effect, empty when it is.
    pub config_error: watch::Receiver<String>,
    /// Which VIPs the director has.
    pub possession: Possession,
    /// Where they are announced.
    pub announcements: Board,
    /// When the process started.
    pub started: Instant,
    /// Services, and as many servers, that are told of one by one at most.
    pub limit: usize,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Scrape {
    /// What this process takes of the machine.
    pub control: ProcessUse,
    /// Since its start.
    pub uptime: Duration,
    /// The configuration file is in effect.
    pub config_in_effect: bool,
    /// The connection to the data plane.
    pub link: Link,
    /// What the data plane told, unless it did not.
    pub dataplane: Option<DataplaneStatus>,
    /// Counters of all services together.
    pub total: Option<Counters>,
    /// Services and servers.
    pub services: Views,
    /// VIPs.
    pub vips: VipsView,
    /// Rules that are told of one by one at most.
    pub limit: usize,
    /// How long the look took.
    pub took: Duration,
}

impl Source {
    /// Looks.
    pub async fn look(&self) -> Scrape {
        let begun = Instant::now();
        let link = self.link.borrow().clone();
        let answer = match link.channel.clone() {
            Some(channel) => timeout(PATIENCE, ask(channel)).await.ok().and_then(Result::ok),
            None => None,
        };
        let (mut dataplane, counted, total) = match answer {
            Some((status, counted, total)) => (Some(status), counted, total),
            None => (None, Vec::new(), None),
        };
        let known = self.verdicts.at(0).await;
        let (config_in_effect, limit) = (self.config_error.borrow().is_empty(), self.limit);
        let (uptime, control) = (self.started.elapsed(), process::usage());
        let vips = VipsView::new(&known.desired.state, &self.possession, &self.announcements, limit);
        // Names of tens of thousands take their time, which is not the other tasks'.
        let uses =
            dataplane.as_mut().map(|status| std::mem::take(&mut status.local_pools)).unwrap_or_default();
        let views = tokio::task::spawn_blocking(move || Views::new(&known, counted, &uses, limit));
        let services = views.await.unwrap_or_default();
        Scrape {
            control,
            uptime,
            config_in_effect,
            link,
            dataplane,
            total,
            services,
            vips,
            limit,
            took: begun.elapsed(),
        }
    }
}

type Answer = (DataplaneStatus, Vec<ServiceCounters>, Option<Counters>);

/// All that the data plane has to tell.
async fn ask(channel: Channel) -> Result<Answer, Status> {
    let mut client = DataplaneClient::new(channel).max_decoding_message_size(socket::MESSAGE_LIMIT);
    let asked = GetStatusRequest { local_pools: true, every_count: true };
    let status = client.get_status(asked).await?.into_inner();
    let mut chunks = client.list_counters(ListCountersRequest::default()).await?.into_inner();
    let (mut services, mut total) = (Vec::new(), None);
    while let Some(chunk) = chunks.message().await? {
        services.extend(chunk.services);
        total = total.or(chunk.total);
    }
    Ok((status, services, total))
}
