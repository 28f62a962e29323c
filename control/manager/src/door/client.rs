//! A conversation by netlink: datagrams in, the messages in them answered one after the other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fulcrum_ipvs::{Errno, messages};
use tokio::time::timeout;
use tokio_seqpacket::UnixSeqpacket;
use tracing::{debug, info};

use super::{Guest, answer};
use crate::service::Service;

/// The largest datagram that is read.
const LONGEST: usize = 64 << 10;

/// How long a client may not read what was sent to it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where answers go.
#[derive(Debug)]
pub(super) struct Sender {
    socket: UnixSeqpacket,
}

impl Sender {
    /// Sends a packet, as soon as the client has room for it.
    pub(super) async fn send(&self, packet: &[u8]) -> io::Result<()> {
        match timeout(PATIENCE, self.socket.send(packet)).await {
            Ok(sent) => sent.map(drop),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Serves a client until it goes away.
pub(super) async fn serve(socket: UnixSeqpacket, guest: Guest, service: Arc<Service>) {
    if let Err(error) = converse(&Sender { socket }, &guest, &service).await {
        match error.kind() {
            io::ErrorKind::TimedOut => info!(who = %guest.who.name, "does not read: IPVS connection closed"),
            _ => debug!(who = %guest.who.name, %error, "IPVS connection lost"),
        }
    }
}

async fn converse(client: &Sender, guest: &Guest, service: &Service) -> io::Result<()> {
    let mut buffer = vec![0; LONGEST];
    loop {
        let read = client.socket.recv(&mut buffer).await?;
        let datagram = &buffer[..read.bytes_read()];
        if datagram.is_empty() && !read.truncated() {
            return Ok(());
        }
        if read.truncated() {
            info!(who = %guest.who.name, most = LONGEST, "IPVS datagram too long: not read");
            // Of one message that is as long there is nothing to answer.
            let Some(first) = messages(datagram).next() else { return Ok(()) };
            client.send(&first.refusal(Errno::EMSGSIZE)).await?;
            continue;
        }
        for message in messages(datagram) {
            answer::answer(service, guest, &message, client).await?;
        }
    }
}
