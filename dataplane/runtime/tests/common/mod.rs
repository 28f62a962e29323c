//! A data plane process under test, its configuration, and network namespaces for it.

// Each test program uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::fs;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use fulcrum_api::dataplane::dataplane_client::DataplaneClient;
use fulcrum_api::dataplane::{
    DataplaneStatus, GetStatusRequest, SyncBegin, SyncCommit, SyncPart, SyncReply, sync_part::Part,
};
use fulcrum_api::{changes, socket};
use fulcrum_model::State;
use fulcrum_model::file::Config;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::transport::Channel;

/// Patience with everything that takes its time.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The first processor that tests may use.
pub fn lcore() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    list.split(['-', ',']).next().unwrap().parse().unwrap()
}

/// The last processor that tests may use: another one than the first where there are two.
pub fn other_lcore() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    list.rsplit(['-', ',']).next().unwrap().parse().unwrap()
}

/// A folder with a configuration file.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// `rest` follows `[dataplane]` with lcores, few sessions and adaptive idling.
    pub fn new(lcores: &str, rest: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let head = format!("[dataplane]\nlcores = \"{lcores}\"\nidle = \"adaptive\"\nsessions = 4096\n");
        fs::write(folder.path().join("fulcrum.toml"), head + rest).unwrap();
        Place { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("dataplane.sock")
    }

    /// The state of the configuration file.
    pub fn state(&self) -> State {
        let text = fs::read_to_string(self.path("fulcrum.toml")).unwrap();
        Config::parse("fulcrum.toml", &text).unwrap().state
    }

    pub fn command(&self, namespace: Option<&str>, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_fulcrum-dataplane");
        let mut command = match namespace {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, program]);
                command
            }
            None => Command::new(program),
        };
        command.arg("--config").arg(self.path("fulcrum.toml")).arg("--socket").arg(self.socket());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Starts a data plane and waits until it is ready.
    pub fn start(&self, namespace: Option<&str>, arguments: &[&str]) -> Running {
        let mut child = self.command(namespace, arguments).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let reader = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut running = Running { child, reader: Some(reader), socket: self.socket() };
        let deadline = Instant::now() + PATIENCE;
        while !running.answers() {
            if let Some(status) = running.child.try_wait().unwrap() {
                panic!("the data plane ended with {status}:\n{}", running.log());
            }
            if Instant::now() > deadline {
                let _ = running.child.kill();
                panic!("the data plane did not get ready:\n{}", running.log());
            }
            thread::sleep(Duration::from_millis(20));
        }
        running
    }

    /// Runs a data plane that is expected not to start; gives what it said.
    pub fn refused(&self, namespace: Option<&str>, arguments: &[&str]) -> String {
        let output = self.command(namespace, arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        said
    }
}

/// A data plane at work; killed when dropped.
pub struct Running {
    child: Child,
    reader: Option<thread::JoinHandle<String>>,
    socket: PathBuf,
}

impl Running {
    fn answers(&self) -> bool {
        let socket = self.socket.clone();
        block_on(async move { try_status(&socket).await.is_some() })
    }

    pub fn status(&self) -> DataplaneStatus {
        block_on(try_status(&self.socket)).expect("an answer from the data plane")
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Programs a whole state and waits until every worker runs it.
    pub fn program(&self, generation: u64, state: &State) {
        self.synchronize(SyncBegin { generation, full: true, base: 0 }, state).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while self.status().acknowledged != generation {
            assert!(Instant::now() < deadline, "workers did not take generation {generation}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn synchronize(&self, begin: SyncBegin, state: &State) -> Result<SyncReply, tonic::Status> {
        let changes = changes(state).into_iter().map(Part::Change);
        self.send(
            std::iter::once(Part::Begin(begin)).chain(changes).chain([Part::Commit(SyncCommit {})]).collect(),
        )
    }

    pub fn send(&self, parts: Vec<Part>) -> Result<SyncReply, tonic::Status> {
        self.send_all(parts.into_iter())
    }

    /// Sends parts as they are asked for.
    pub fn send_all(
        &self,
        parts: impl Iterator<Item = Part> + Send + 'static,
    ) -> Result<SyncReply, tonic::Status> {
        let socket = self.socket.clone();
        block_on(async move {
            let parts = parts.map(|part| SyncPart { part: Some(part) });
            let mut client = client(&socket).await.expect("the data plane serves its socket");
            client.synchronize(tokio_stream::iter(parts)).await.map(tonic::Response::into_inner)
        })
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for the end; gives how it ended and what was logged.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the data plane did not end");
            thread::sleep(Duration::from_millis(10));
        };
        let log = self.log();
        (status, log)
    }

    /// Ends it in good order.
    pub fn stop(self) -> String {
        self.signal(Signal::SIGTERM);
        let (status, log) = self.wait();
        assert!(status.success(), "{status}:\n{log}");
        log
    }

    /// Ends it without a chance to tidy up.
    pub fn kill(self) {
        self.signal(Signal::SIGKILL);
        let (status, _) = self.wait();
        assert_eq!(status.signal(), Some(9));
    }

    fn log(&mut self) -> String {
        self.reader.take().map(|reader| reader.join().unwrap()).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn block_on<T: Send + 'static>(work: impl Future<Output = T> + Send) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

pub async fn client(socket: &Path) -> Option<DataplaneClient<Channel>> {
    socket::connect(socket).await.ok().map(DataplaneClient::new)
}

async fn try_status(socket: &Path) -> Option<DataplaneStatus> {
    let mut client = client(socket).await?;
    client.get_status(GetStatusRequest::default()).await.ok().map(tonic::Response::into_inner)
}

/// A capture of frames.
pub fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut capture = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        capture.extend_from_slice(&word.to_le_bytes());
    }
    for frame in frames {
        let length = frame.len() as u32;
        for word in [1, 1, length, length] {
            capture.extend_from_slice(&word.to_le_bytes());
        }
        capture.extend_from_slice(frame);
    }
    capture
}

/// The Internet checksum of a header.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}
