//! What a supervisor is told and gives: systemd's protocol, which others speak too. Without one nothing happens.

use std::io;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use sd_notify::{NotifyState, notify};

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

/// The listening socket that the supervisor has made for this process, if it has. To be asked once.
pub fn socket() -> io::Result<Option<UnixListener>> {
    let mut given = ListenFd::from_env();
    match given.len() {
        0 => Ok(None),
        1 => given.take_unix_listener(0),
        more => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the supervisor hands over {more} sockets; one, of the command line, is right"),
        )),
    }
}
