//! What tools of IPVS look at: services with what was counted, sessions, sums. The same that the Control service lists.

use std::sync::Arc;

use fulcrum_api::{dataplane, listing};
use fulcrum_log::AUDIT;
use fulcrum_model::ipvsadm::list::{Counters, ListedService};
use fulcrum_model::{ServiceKey, State};
use tonic::Status;
use tracing::info;

use crate::access::Who;
use crate::service::Service;

impl Service {
    /// The desired state.
    pub(crate) async fn state(&self) -> Arc<State> {
        self.desired.lock().await.current().state
    }

    /// Services as they are in effect, or the one of that key, with what the data plane counted; with zeros when it
    /// does not tell.
    pub(crate) async fn listed(&self, key: Option<ServiceKey>) -> Vec<ListedService> {
        let state = self.known().await.effective;
        let services = state.services.iter().filter(|service| key.is_none_or(|key| service.key == key));
        let services: Vec<_> = services.cloned().collect();
        if services.is_empty() {
            return Vec::new();
        }
        let counted = self.counted(key).await.unwrap_or_default().services;
        let idle = || services.iter().cloned().map(ListedService::idle).collect();
        listing::services(services.clone(), counted).unwrap_or_else(|_| idle())
    }

    /// The sum of what the data plane counted of all services; zeros when it does not tell.
    pub(crate) async fn total(&self) -> Counters {
        listing::counters(self.counted(None).await.unwrap_or_default().total.as_ref())
    }

    /// What is counted of one service, or of all and together.
    async fn counted(&self, key: Option<ServiceKey>) -> Result<dataplane::CountersChunk, Status> {
        let mut client = self.dataplane()?;
        let asked = dataplane::ListCountersRequest { key: key.as_ref().map(Into::into) };
        let mut chunks = self.answer(client.list_counters(asked)).await?.into_inner();
        let mut all = dataplane::CountersChunk::default();
        while let Some(chunk) = chunks.message().await? {
            all.services.extend(chunk.services);
            all.total = all.total.or(chunk.total);
        }
        Ok(all)
    }

    /// Sessions in chunks, as they are read.
    pub(crate) async fn sessions(&self) -> Result<tonic::Streaming<dataplane::SessionChunk>, Status> {
        let mut client = self.dataplane()?;
        let asked = dataplane::ListSessionsRequest::default();
        Ok(self.answer(client.list_sessions(asked)).await?.into_inner())
    }

    /// Lets counters begin at 0 again; where there is no data plane there are none.
    pub(crate) async fn zero(&self, who: &Who, key: Option<ServiceKey>) -> Result<(), Status> {
        let Ok(mut client) = self.dataplane() else { return Ok(()) };
        let asked = dataplane::ZeroCountersRequest { key: key.as_ref().map(Into::into) };
        self.answer(client.zero_counters(asked)).await?;
        info!(target: AUDIT, who = %who.name, from = %who.from, "counters zeroed");
        Ok(())
    }
}
