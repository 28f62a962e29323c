//! The files that a kernel has in `/proc/net`: who connects says a name, and is sent the file.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fulcrum_api::listing;
use fulcrum_ipvs::proc::{self, File};
use fulcrum_model::ipvsadm::list::TABLE_SIZE;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tracing::debug;

use super::Guest;
use crate::service::Service;

/// The longest name.
const NAME: u64 = 64;

/// How long a client may say no name, or not read.
const PATIENCE: Duration = Duration::from_secs(30);

/// Text is sent in pieces of about this size.
const PIECE: usize = 64 << 10;

/// Serves a client.
pub(super) async fn serve(mut stream: UnixStream, guest: Guest, service: Arc<Service>) {
    if let Err(error) = tell(&mut stream, &service).await {
        debug!(who = %guest.who.name, %error, "IPVS file not read to its end");
    }
}

async fn tell(stream: &mut UnixStream, service: &Service) -> io::Result<()> {
    let Some(file) = timeout(PATIENCE, asked(stream)).await?? else { return Ok(()) };
    let mut pieces = Pieces { stream, text: String::new() };
    match file {
        File::Services => {
            pieces.text.push_str(&proc::services_title(TABLE_SIZE));
            for listed in proc::in_order(&service.listed(None).await) {
                pieces.text.push_str(&proc::service(listed));
                pieces.send(PIECE).await?;
            }
        }
        File::Connections => connections(&mut pieces, service, false).await?,
        File::ConnectionsSync => connections(&mut pieces, service, true).await?,
        File::Stats => pieces.text.push_str(&proc::stats(&service.total().await)),
        File::StatsPerCpu => {
            let all = service.total().await;
            pieces.text.push_str(&proc::stats_per_cpu([&all], &all));
        }
    }
    pieces.send(0).await?;
    timeout(PATIENCE, stream.shutdown()).await?
}

/// The file that is asked for.
async fn asked(stream: &mut UnixStream) -> io::Result<Option<File>> {
    let mut name = Vec::new();
    let mut limited = stream.take(NAME);
    while limited.read_buf(&mut name).await? != 0 && !name.contains(&b'\n') {}
    let line = name.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(std::str::from_utf8(line).ok().and_then(File::named))
}

async fn connections(pieces: &mut Pieces<'_>, service: &Service, sync: bool) -> io::Result<()> {
    pieces.text.push_str(proc::connections_title(sync));
    // Without a data plane there are none.
    let Ok(mut chunks) = service.sessions().await else { return Ok(()) };
    while let Some(chunk) = chunks.message().await.map_err(io::Error::other)? {
        // What is masqueraded is no connection of IPVS's.
        for session in chunk.sessions.into_iter().filter(|session| session.snat.is_empty()) {
            let session = listing::session(session).map_err(io::Error::other)?;
            proc::connection(&mut pieces.text, &session, sync);
        }
        pieces.send(PIECE).await?;
    }
    Ok(())
}

struct Pieces<'a> {
    stream: &'a mut UnixStream,
    text: String,
}

impl Pieces<'_> {
    /// Sends what has been gathered, once it is so much.
    async fn send(&mut self, least: usize) -> io::Result<()> {
        if self.text.len() > least {
            timeout(PATIENCE, self.stream.write_all(self.text.as_bytes())).await??;
            self.text.clear();
        }
        Ok(())
    }
}
