//! What a supervisor is told and gives: systemd's protocol, which others speak too. Without one nothing happens.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use sd_notify::{NotifyState, notify};

/// Linux's numbers of a family and a type of sockets.
const AF_UNIX: i32 = 1;
const SOCK_SEQPACKET: i32 = 5;

/// The process serves its socket; `status` is what `systemctl status` shows.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The process works as it should. To be said by the place that sees so, more often than the supervisor's patience
/// lasts, which is some seconds.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// The process ends.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// A supervisor that is gone is told nothing, and misses nothing.
fn tell(state: &[NotifyState<'_>]) {
    let _ = notify(state);
}

/// Listening sockets of the file system that the supervisor has made for this process.
#[derive(Debug, Default)]
pub struct Given {
    /// Those that take streams.
    pub streams: Vec<UnixListener>,
    /// Those that take packets, in order and without loss.
    pub packets: Vec<OwnedFd>,
}

/// The sockets that the supervisor hands over. To be asked once.
pub fn sockets() -> io::Result<Given> {
    let mut fds = ListenFd::from_env();
    let mut given = Given::default();
    for at in 0..fds.len() {
        match fds.take_custom::<OwnedFd>(at, AF_UNIX, SOCK_SEQPACKET, "a Unix socket for packets") {
            Ok(packets) => given.packets.extend(packets),
            Err(_) => given.streams.extend(fds.take_unix_listener(at)?),
        }
    }
    Ok(given)
}
