//! fulcrum-control's service in the model's own terms.

use std::net::IpAddr;
use std::time::Duration;

use fulcrum_api::control::control_client::ControlClient;
use fulcrum_api::control::{self as wire, Delivery};
use fulcrum_api::{apply_changes, changes, convert, dataplane, socket};
use fulcrum_model::{Edit, ServiceKey, State};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::door::Door;
use crate::failure::Failure;

/// A question is answered within this time, however busy the other end is.
const QUESTION: Duration = Duration::from_secs(10);
/// So is a change, of a hundred thousand services too.
const CHANGE: Duration = Duration::from_secs(60);

/// A connection to fulcrum-control.
#[derive(Clone, Debug)]
pub struct Client {
    control: ControlClient<Channel>,
}

impl Client {
    /// Connects to the director behind `door`.
    pub async fn connect(door: &Door) -> Result<Client, Failure> {
        let channel = door.connect().await?;
        let control = ControlClient::new(channel)
            .max_decoding_message_size(socket::MESSAGE_LIMIT)
            .max_encoding_message_size(socket::MESSAGE_LIMIT);
        Ok(Client { control })
    }

    /// Applies edits, all or none, and says whether they are in effect.
    pub async fn edit(&mut self, edits: &[Edit]) -> Result<Delivery, Failure> {
        let request = wire::EditRequest { edits: edits.iter().map(Into::into).collect() };
        Ok(answer(CHANGE, self.control.edit(request)).await?.delivery.unwrap_or_default())
    }

    /// Replaces the whole desired state; with `dry_run` only says what that would change.
    pub async fn apply(&mut self, state: &State, dry_run: bool) -> Result<wire::ApplyReply, Failure> {
        let state = Some(wire::State { changes: changes(state) });
        answer(CHANGE, self.control.apply(wire::ApplyRequest { state, dry_run })).await
    }

    /// The desired state.
    pub async fn state(&mut self) -> Result<State, Failure> {
        self.get(wire::GetStateRequest::default()).await
    }

    /// What the data plane is given of it: without servers that are down, without checks.
    pub async fn effective(&mut self) -> Result<State, Failure> {
        self.get(wire::GetStateRequest { effective: true }).await
    }

    async fn get(&mut self, asked: wire::GetStateRequest) -> Result<State, Failure> {
        let reply = answer(QUESTION, self.control.get_state(asked)).await?;
        let mut state = State::default();
        apply_changes(&mut state, reply.changes)?;
        Ok(state)
    }

    /// How services and their servers are, or one service and its servers.
    pub async fn health(
        &mut self,
        service: Option<ServiceKey>,
    ) -> Result<Vec<wire::ServiceStanding>, Failure> {
        let asked = wire::ListHealthRequest { service: service.as_ref().map(Into::into) };
        Ok(answer(QUESTION, self.control.list_health(asked)).await?.services)
    }

    /// What happened to servers and services.
    pub async fn events(
        &mut self,
        asked: wire::WatchEventsRequest,
    ) -> Result<tonic::Streaming<wire::Event>, Failure> {
        answer(QUESTION, self.control.watch_events(asked)).await
    }

    /// The desired state as a configuration file.
    pub async fn config(&mut self) -> Result<String, Failure> {
        Ok(answer(QUESTION, self.control.get_config(wire::GetConfigRequest {})).await?.toml)
    }

    /// How both processes are.
    pub async fn status(&mut self) -> Result<wire::Status, Failure> {
        answer(QUESTION, self.control.get_status(wire::GetStatusRequest {})).await
    }

    /// How the data plane is.
    pub async fn dataplane(&mut self) -> Result<dataplane::DataplaneStatus, Failure> {
        let wire::Status { link, dataplane, .. } = self.status().await?;
        dataplane.ok_or_else(|| {
            let socket = link.unwrap_or_default().socket;
            Failure::NoDataplane(format!(
                "the data plane is not connected ({socket}); start fulcrum-dataplane"
            ))
        })
    }

    /// Counters of all services and servers, and their sum.
    pub async fn counters(&mut self) -> Result<dataplane::CountersChunk, Failure> {
        let mut stream =
            answer(QUESTION, self.control.list_counters(dataplane::ListCountersRequest::default())).await?;
        let mut all = dataplane::CountersChunk::default();
        while let Some(chunk) = stream.message().await? {
            all.services.extend(chunk.services);
            all.total = all.total.or(chunk.total);
        }
        Ok(all)
    }

    /// Sessions in chunks.
    pub async fn sessions(
        &mut self,
        asked: dataplane::ListSessionsRequest,
    ) -> Result<tonic::Streaming<dataplane::SessionChunk>, Failure> {
        answer(QUESTION, self.control.list_sessions(asked)).await
    }

    /// Neighbours, static and learned.
    pub async fn neighbours(&mut self) -> Result<Vec<dataplane::NeighbourStatus>, Failure> {
        let asked = self.control.list_neighbours(dataplane::ListNeighboursRequest {});
        Ok(answer(QUESTION, asked).await?.neighbours)
    }

    /// The VIPs of all services.
    pub async fn vips(&mut self) -> Result<wire::ListVipsReply, Failure> {
        answer(QUESTION, self.control.list_vips(wire::ListVipsRequest {})).await
    }

    /// Takes or releases VIPs, all or none, and says whether that is in effect.
    pub async fn set_vips(&mut self, vips: &[IpAddr], taken: bool) -> Result<Delivery, Failure> {
        let addresses = vips.iter().map(|vip| convert::address_bytes(*vip)).collect();
        let request = wire::SetVipsRequest { addresses, taken };
        Ok(answer(CHANGE, self.control.set_vips(request)).await?.delivery.unwrap_or_default())
    }

    /// Withdraws the announcements of all VIPs for so long; `why` is for those who wonder.
    pub async fn withdraw_vips(&mut self, time: Duration, why: &str) -> Result<(), Failure> {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let asked = wire::WithdrawVipsRequest { milliseconds, why: why.to_owned() };
        answer(QUESTION, self.control.withdraw_vips(asked)).await?;
        Ok(())
    }

    /// Has fulcrum-control read its configuration file and certificates again.
    pub async fn reload(&mut self) -> Result<(), Failure> {
        answer(CHANGE, self.control.reload(wire::ReloadRequest {})).await?;
        Ok(())
    }

    /// Has a process end, to be started again by its supervisor; with `rehearse` only asks whether it could be told to.
    pub async fn end(&mut self, process: wire::Process, rehearse: bool) -> Result<(), Failure> {
        let process = process.into();
        answer(QUESTION, self.control.end(wire::EndRequest { process, rehearse })).await?;
        Ok(())
    }

    /// Frames, from now on, in chunks.
    pub async fn capture(
        &mut self,
        asked: dataplane::CaptureRequest,
    ) -> Result<tonic::Streaming<dataplane::CaptureChunk>, Failure> {
        answer(QUESTION, self.control.capture(asked)).await
    }

    /// Zeroes the counters of one service, or of all.
    pub async fn zero(&mut self, service: Option<ServiceKey>) -> Result<(), Failure> {
        let key = service.as_ref().map(Into::into);
        answer(QUESTION, self.control.zero_counters(dataplane::ZeroCountersRequest { key })).await?;
        Ok(())
    }
}

/// The answer, unless it takes longer than it may.
async fn answer<T>(
    limit: Duration,
    asked: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match timeout(limit, asked).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Failure::Silent(limit.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_is_not_waited_for_without_end() {
        let silence = std::future::pending::<Result<Response<()>, Status>>();
        assert!(matches!(answer(Duration::from_millis(1), silence).await, Err(Failure::Silent(_))));
    }
}
