//! Processes that are asked to end, so that their supervisors start them again, or to read their files again.

use fulcrum_api::control::{EndRequest, Process};
use fulcrum_api::dataplane;
use fulcrum_api::status::clipped;
use fulcrum_log::AUDIT;
use tokio::sync::oneshot;
use tonic::{Code, Status};
use tracing::info;

use super::Service;
use crate::access::Who;

impl Service {
    /// Has the configuration file and certificates read again.
    pub(super) async fn read_again(&self) -> Result<(), Status> {
        let (to, done) = oneshot::channel();
        let gone = || Status::unavailable("fulcrum-control ends");
        self.reload.send(to).await.map_err(|_| gone())?;
        done.await.map_err(|_| gone())?.map_err(|wrong| Status::invalid_argument(clipped(wrong)))
    }

    pub(super) async fn end_process(&self, who: &Who, request: EndRequest) -> Result<(), Status> {
        let (process, name) = match request.process() {
            Process::Dataplane => (Process::Dataplane, "fulcrum-dataplane"),
            Process::Control => (Process::Control, "fulcrum-control"),
            Process::Unspecified => {
                return Err(Status::invalid_argument("process: is none of DATAPLANE 1, CONTROL 2"));
            }
        };
        let dataplane = match process {
            Process::Dataplane => Some(self.dataplane()?),
            _ => None,
        };
        if request.rehearse {
            return Ok(());
        }
        info!(target: AUDIT, who = %who.name, from = %who.from, process = name, "asked to end");
        let Some(mut dataplane) = dataplane else {
            self.end.notify_one();
            return Ok(());
        };
        match self.answer(dataplane.end(dataplane::EndRequest {})).await {
            Ok(_) => Ok(()),
            // It may be gone before its answer is.
            Err(status) if status.code() == Code::Unavailable => Ok(()),
            Err(status) if status.code() == Code::Unimplemented => Err(Status::unimplemented(
                "this data plane cannot be asked to end; have whoever started it start it again",
            )),
            Err(status) => Err(status),
        }
    }
}
