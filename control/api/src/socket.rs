//! gRPC over Unix sockets: one way to listen, one way to connect.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Messages of this size pass: a whole configuration with a hundred thousand services is one.
pub const MESSAGE_LIMIT: usize = 256 << 20;

/// Longest path of a socket in bytes: it is made under a longer name (see [`Listener::bind`]), and an address has room
/// for 107.
const LONGEST: usize = 96;

/// What the system says of a socket that is there and of another type: EPROTOTYPE.
const WRONG_TYPE: i32 = 91;

/// Between two attempts to accept a connection when the system refuses, as it does without file descriptors left.
const REFUSED: Duration = Duration::from_millis(100);

/// Why a socket could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process answers on it.
    #[error("another process already serves {}; stop it first, or choose another socket", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket is in its place.
    #[error("{} exists and is no socket; remove it, or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// Longer than an address of a socket.
    #[error("cannot serve {}: a socket's path has at most {LONGEST} bytes, this one has {}", .0.display(), .0.as_os_str().len())]
    TooLong(PathBuf),
    /// The system refused.
    #[error("cannot serve {}: {source}", path.display())]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A listening socket whose file goes away with it.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    /// None of a socket that somebody else has made, and removes.
    file: Option<SocketFile>,
}

/// The socket's name in the file system, removed when dropped unless somebody else has taken the name since.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    /// Makes the socket that `bind` makes at `path`, of this mode and, if there is one, for the user of that number
    /// (missing directories are made with 0755). One that a dead process left behind is replaced; one that is answered
    /// is not. Needs a tokio runtime.
    pub async fn make<L>(
        path: &Path,
        mode: u32,
        owner: Option<u32>,
        bind: impl FnOnce(&Path) -> io::Result<L>,
    ) -> Result<(L, SocketFile), ListenError> {
        let io = |source| ListenError::Io { path: path.to_owned(), source };
        if path.as_os_str().len() > LONGEST {
            return Err(ListenError::TooLong(path.to_owned()));
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(io)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(meta) if !meta.file_type().is_socket() => {
                return Err(ListenError::NotASocket(path.to_owned()));
            }
            Ok(_) => match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(io)?;
                }
                // One that is too busy to answer has the socket all the same, and so has one that does not speak in
                // streams.
                Err(error)
                    if error.kind() != io::ErrorKind::WouldBlock
                        && error.raw_os_error() != Some(WRONG_TYPE) =>
                {
                    return Err(io(error));
                }
                _ => return Err(ListenError::InUse(path.to_owned())),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        // Bound under a name nobody knows and renamed when its mode is right: at no time may others connect.
        let mut private = path.as_os_str().to_owned();
        private.push(format!(".{}", std::process::id()));
        let private = PathBuf::from(private);
        let listener = bind(&private).map_err(io)?;
        let inode = std::fs::set_permissions(&private, std::fs::Permissions::from_mode(mode))
            .and_then(|()| {
                owner.map_or(Ok(()), |owner| std::os::unix::fs::lchown(&private, Some(owner), None))
            })
            .and_then(|()| std::fs::symlink_metadata(&private))
            .and_then(|meta| std::fs::rename(&private, path).map(|()| meta.ino()))
            .map_err(|error| {
                let _ = std::fs::remove_file(&private);
                io(error)
            })?;
        Ok((listener, SocketFile { path: path.to_owned(), inode }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Listens at `path`, for the owner alone (mode 0600; missing directories are made with 0755). A socket
    /// that a dead process left behind is replaced; one that is answered is not. Needs a tokio runtime.
    pub async fn bind(path: &Path) -> Result<Listener, ListenError> {
        Listener::bind_for(path, None).await
    }

    /// As [`Listener::bind`], for the user of that number instead of the process's own, if there is one. The process's
    /// group may connect then too (mode 0660): its successor has to find out whether anybody is there, and root without
    /// the right to pass by permissions is nobody special.
    pub async fn bind_for(path: &Path, owner: Option<u32>) -> Result<Listener, ListenError> {
        let mode = if owner.is_some() { 0o660 } else { 0o600 };
        let (listener, file) = SocketFile::make(path, mode, owner, |path| UnixListener::bind(path)).await?;
        Ok(Listener { listener, file: Some(file) })
    }

    /// Takes over a socket on which a supervisor listens already; its file stays.
    pub fn given(listener: std::os::unix::net::UnixListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        Ok(Listener { listener: UnixListener::from_std(listener)?, file: None })
    }

    /// Connections as they come, for `tonic`'s `serve_with_incoming`. The file is removed when the stream is dropped.
    pub fn incoming(self) -> Incoming {
        Incoming { stream: UnixListenerStream::new(self.listener), pause: None, _file: self.file }
    }
}

/// Connections to a [`Listener`].
#[derive(Debug)]
pub struct Incoming {
    stream: UnixListenerStream,
    pause: Option<Pin<Box<Sleep>>>,
    _file: Option<SocketFile>,
}

impl Stream for Incoming {
    type Item = io::Result<UnixStream>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let next = Pin::new(&mut self.stream).poll_next(context);
        if let Poll::Ready(Some(Err(_))) = next {
            self.pause = Some(Box::pin(sleep(REFUSED)));
        }
        next
    }
}

/// Connects to the socket at `path`. The channel connects again by itself when the other end was restarted.
pub async fn connect(path: &Path) -> Result<Channel, tonic::transport::Error> {
    let path = path.to_owned();
    // The address is never looked up: the connector below goes to the socket.
    Endpoint::from_static("http://fulcrum.local")
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_private_and_goes_away_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/down.sock");
        let incoming = Listener::bind(&path).await.unwrap().incoming();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        drop(incoming);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_was_given_is_served_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let made = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut incoming = Listener::given(made.try_clone().unwrap()).unwrap().incoming();
        let _client = UnixStream::connect(&path).await.unwrap();
        let next = std::future::poll_fn(|context| Pin::new(&mut incoming).poll_next(context)).await;
        assert!(next.is_some_and(|accepted| accepted.is_ok()));
        drop(incoming);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let first = Listener::bind(&path).await.unwrap();
        assert!(matches!(Listener::bind(&path).await, Err(ListenError::InUse(_))));
        assert!(path.exists());
        drop(first);
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&path).await, Err(ListenError::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_socket_whose_owner_is_too_busy_to_answer_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let _busy = Listener::bind(&path).await.unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = UnixStream::connect(&path).await {
            waiting.push(stream);
        }
        assert!(matches!(Listener::bind(&path).await, Err(ListenError::InUse(_))));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_refused_with_the_limit() {
        let path = Path::new("/tmp").join("x".repeat(200));
        let refused = Listener::bind(&path).await.unwrap_err().to_string();
        assert!(refused.ends_with("has at most 96 bytes, this one has 205"), "{refused}");
    }

    #[tokio::test]
    async fn a_successors_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        let first = Listener::bind(&path).await.unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = Listener::bind(&path).await.unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
