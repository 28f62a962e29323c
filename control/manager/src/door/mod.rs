//! The kernel's own door: tools written for IPVS drive the director as they drive a kernel.
//!
//! Lives here: the two sockets and who may come in (`mod`), a client's conversation (`client`), what requests do
//! (`answer`) and are told (`facts`), the files of `/proc` (`files`). Does not live here: what messages mean (fulcrum-ipvs). It is a second
//! face of the desired state that the Control service changes: the same edits, audit and listings.

mod answer;
mod client;
mod facts;
mod files;

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fulcrum_api::socket::{ListenError, SocketFile};
use fulcrum_daemon::supervisor::Given;
use fulcrum_model::file::{IPVS_SOCKET, Role};
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_seqpacket::UnixSeqpacketListener;
use tracing::warn;

use crate::access::Who;
use crate::service::Service;

/// Everybody may connect, as everybody may open a netlink socket; what may be done depends on who it is.
const MODE: u32 = 0o666;

/// Clients at a time that may change the director, and that may not.
const CLIENTS: [usize; 2] = [1024, 64];

/// Between two attempts to accept a client when the system refuses.
const REFUSED: Duration = Duration::from_millis(100);

/// Both sockets, listening.
#[derive(Debug)]
pub struct Door {
    netlink: UnixSeqpacketListener,
    proc: UnixListener,
    /// Removed with the door, those that it has made itself.
    _files: Vec<SocketFile>,
    guests: Guests,
}

/// Who may be inside.
#[derive(Clone, Debug)]
struct Guests {
    /// The process's own user and group.
    own: (u32, u32),
    places: [Arc<Semaphore>; 2],
}

/// The other end of a connection, which has a place as long as it is known.
#[derive(Debug)]
struct Guest {
    who: Who,
    /// Whether it may change the director.
    privileged: bool,
    _place: OwnedSemaphorePermit,
}

/// The socket for the files of `/proc` that goes with one for netlink: `ipvs-proc.sock` with `ipvs.sock`.
pub fn proc_path(netlink: &Path) -> PathBuf {
    let mut name = netlink.file_stem().map_or_else(OsString::new, OsString::from);
    name.push("-proc");
    if let Some(extension) = netlink.extension() {
        name.push(".");
        name.push(extension);
    }
    netlink.with_file_name(name)
}

impl Door {
    /// Listens at `path` for netlink, and beside it for the files of `/proc`.
    pub async fn open(path: &Path) -> Result<Door, ListenError> {
        let (netlink, file) =
            SocketFile::make(path, MODE, None, |path| UnixSeqpacketListener::bind(path)).await?;
        let (proc, proc_file) =
            SocketFile::make(&proc_path(path), MODE, None, |path| UnixListener::bind(path)).await?;
        Door::behind(netlink, proc, vec![file, proc_file])
    }

    /// Takes over sockets on which a supervisor listens already; their files stay. Of the streams the one for `/proc` is
    /// taken away, which is beside that for netlink.
    pub fn given(given: &mut Given) -> Result<Option<Door>, ListenError> {
        let Some(netlink) = given.packets.pop() else { return Ok(None) };
        let io = |source| ListenError::Io { path: IPVS_SOCKET.into(), source };
        let netlink = UnixSeqpacketListener::try_from(netlink).map_err(io)?;
        let path = netlink.local_addr().map_err(io)?;
        let wanted = proc_path(&path);
        let is_it = |stream: &StdListener| {
            stream.local_addr().is_ok_and(|address| address.as_pathname() == Some(&wanted))
        };
        let Some(at) = given.streams.iter().position(is_it) else {
            let why = format!("the supervisor hands over {} without {}", path.display(), wanted.display());
            return Err(io(io::Error::other(why)));
        };
        let proc = given.streams.remove(at);
        let proc = proc.set_nonblocking(true).and_then(|()| UnixListener::from_std(proc)).map_err(io)?;
        Door::behind(netlink, proc, Vec::new()).map(Some)
    }

    fn behind(
        netlink: UnixSeqpacketListener,
        proc: UnixListener,
        files: Vec<SocketFile>,
    ) -> Result<Door, ListenError> {
        let own = std::fs::metadata("/proc/self")
            .map_err(|source| ListenError::Io { path: "/proc/self".into(), source })?;
        let guests = Guests {
            own: (own.uid(), own.gid()),
            places: CLIENTS.map(|places| Arc::new(Semaphore::new(places))),
        };
        Ok(Door { netlink, proc, _files: files, guests })
    }

    /// Serves both sockets.
    pub async fn serve(self, service: Arc<Service>) -> std::convert::Infallible {
        let Door { mut netlink, proc, _files, guests } = self;
        let (services, theirs) = (service.clone(), guests.clone());
        let messages = async move {
            loop {
                let accepted = netlink.accept().await.and_then(|socket| {
                    let peer = socket.peer_cred()?;
                    Ok((socket, theirs.admit(peer.uid(), peer.gid(), peer.pid())))
                });
                match accepted {
                    Ok((socket, Some(guest))) => {
                        drop(tokio::spawn(client::serve(socket, guest, services.clone())))
                    }
                    Ok((_, None)) => {}
                    Err(error) => pause(&error).await,
                }
            }
        };
        let files = async move {
            loop {
                let accepted = proc.accept().await.and_then(|(stream, _)| {
                    let peer = stream.peer_cred()?;
                    Ok((stream, guests.admit(peer.uid(), peer.gid(), peer.pid())))
                });
                match accepted {
                    Ok((stream, Some(guest))) => {
                        drop(tokio::spawn(files::serve(stream, guest, service.clone())))
                    }
                    Ok((_, None)) => {}
                    Err(error) => pause(&error).await,
                }
            }
        };
        tokio::join!(messages, files).0
    }
}

async fn pause(error: &io::Error) {
    warn!(%error, "no tool can be let in by the IPVS socket");
    sleep(REFUSED).await;
}

impl Guests {
    /// Somebody's place; none when as many are inside as may be.
    fn admit(&self, uid: u32, gid: u32, pid: Option<i32>) -> Option<Guest> {
        // Root's group is no privilege; that of a user made for the process is.
        let privileged = uid == 0 || uid == self.own.0 || (gid != 0 && gid == self.own.1);
        let name = match pid {
            Some(pid) => format!("uid {uid} pid {pid}"),
            None => format!("uid {uid}"),
        };
        match self.places[usize::from(!privileged)].clone().try_acquire_owned() {
            Ok(place) => {
                let role = if privileged { Role::Admin } else { Role::Read };
                Some(Guest { who: Who { name, from: "ipvs".to_owned(), role }, privileged, _place: place })
            }
            Err(_) => {
                warn!(who = name, "turned away from the IPVS socket: too many clients");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_socket_is_beside_the_first() {
        for (netlink, proc) in [
            ("/run/fulcrum/ipvs.sock", "/run/fulcrum/ipvs-proc.sock"),
            ("ipvs", "ipvs-proc"),
            ("/a/b.c/x.y.z", "/a/b.c/x.y-proc.z"),
        ] {
            assert_eq!(proc_path(Path::new(netlink)), Path::new(proc));
        }
    }

    #[test]
    fn those_who_may_do_nothing_keep_nobody_out() {
        let guests = Guests { own: (7, 8), places: [1, 1].map(|places| Arc::new(Semaphore::new(places))) };
        let stranger = guests.admit(1000, 1000, Some(5)).unwrap();
        assert!(!stranger.privileged);
        assert!(guests.admit(1000, 1000, Some(6)).is_none());
        let root = guests.admit(0, 0, Some(1)).unwrap();
        assert!(root.privileged);
        assert!(guests.admit(7, 1, None).is_none());
        drop(root);
        assert!(guests.admit(7, 1, None).unwrap().privileged);
        assert!(guests.admit(5, 8, None).unwrap().privileged);
        drop(stranger);
        let of_root = Guests { own: (0, 0), ..guests };
        assert!(!of_root.admit(1000, 0, None).unwrap().privileged);
    }
}
