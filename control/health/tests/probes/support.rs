//! Servers for probes: real programs on ports of the moment, and small ones that misbehave.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fulcrum_health::{Direct, Outcome, Target, Tools, probe};
use fulcrum_model::{Check, CheckKind, CheckTls, Config, HttpMethod, StatusSet};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What one probe of a server on 127.0.0.1 comes to.
pub(crate) async fn ask(kind: CheckKind, port: u16) -> Outcome {
    ask_as(&check(kind), port).await
}

pub(crate) async fn ask_as(check: &Check, port: u16) -> Outcome {
    let tools = Tools::new(Arc::new(Direct));
    probe(&tools, &Target::new(check, Ipv4Addr::LOCALHOST.into(), port, None)).await
}

/// A check with more patience than a busy machine needs.
pub(crate) fn check(kind: CheckKind) -> Check {
    Check { timeout: Duration::from_secs(20), interval: Duration::from_secs(20), ..Check::new("", kind) }
}

/// A check with as little as shows.
pub(crate) fn hasty(kind: CheckKind) -> Check {
    Check { timeout: Duration::from_millis(300), ..check(kind) }
}

/// A check as a file has it: `keys` without the name.
pub(crate) fn written(keys: &str) -> Check {
    let text = format!("[[check]]\nname = \"x\"\ninterval = 20\ntimeout = 20\n{keys}");
    Config::parse("check", &text).unwrap_or_else(|errors| panic!("{errors}")).state.checks.remove(0)
}

pub(crate) fn bad(why: &str) -> Outcome {
    Outcome::Bad(why.to_owned())
}

pub(crate) fn unasked(why: &str) -> Outcome {
    Outcome::Unasked(why.to_owned())
}

pub(crate) fn http(path: &str) -> CheckKind {
    CheckKind::Http {
        tls: None,
        method: HttpMethod::Get,
        path: path.to_owned(),
        host: None,
        status: StatusSet::default(),
        body: None,
        digest: None,
    }
}

/// Trust in the certificates of a file.
pub(crate) fn trusting(ca: &FilePath, name: &str) -> CheckTls {
    CheckTls { name: Some(name.to_owned()), ca: Some(ca.display().to_string()), verify: true }
}

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program that runs until it is dropped.
pub(crate) struct Program(Child);

impl Program {
    /// Starts a program, and waits until there is somebody at the port.
    pub(crate) fn start(command: &mut Command, port: u16) -> Program {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut program =
            Program(child.unwrap_or_else(|error| panic!("{name}: {error}; scripts/setup installs it")));
        let patience = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(ended) = program.0.try_wait().unwrap() {
                panic!("{name} came to an end: {ended}");
            }
            assert!(Instant::now() < patience, "{name} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        program
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx with servers of its own.
pub(crate) struct Nginx {
    _folder: TempDir,
    _program: Program,
}

impl Nginx {
    /// `servers` is what stands in `http { }`; `port` is one of its ports.
    pub(crate) fn start(folder: TempDir, servers: &str, port: u16) -> Nginx {
        let root = folder.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|what| format!("{what}_temp_path {root}/{what};\n"))
            .collect();
        let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
        // One process: whoever kills it leaves no workers behind.
        let text = format!(
            "daemon off; master_process off; {user} worker_processes 1; pid {root}/pid; error_log {root}/error.log;\n\
             events {{ worker_connections 64; }}\nhttp {{ access_log off;\n{temporary}{servers} }}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, text).unwrap();
        let mut command = Command::new("nginx");
        let error_log = folder.path().join("error.log");
        command.arg("-p").arg(folder.path()).arg("-c").arg(file).arg("-e").arg(error_log);
        Nginx { _program: Program::start(&mut command, port), _folder: folder }
    }
}

/// A CA, and a certificate of it for www.example.org and 127.0.0.1: `ca.pem`, `server.pem`, `server.key`.
pub(crate) fn certificates(folder: &FilePath) {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        let done = command.args(arguments.split_whitespace()).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"));
    openssl(&format!("req {key} -subj /CN=server -keyout server.key -out server.csr"));
    fs::write(folder.join("names"), "subjectAltName=DNS:www.example.org,IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
}

/// A TCP server that says `greeting`, then for each line that it is told the next of `answers`, and closes.
pub(crate) async fn talker(greeting: &'static [u8], answers: &'static [&'static [u8]]) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(greeting).await;
                let mut buffer = [0; 4096];
                for answer in answers {
                    if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
                        return;
                    }
                    let _ = stream.write_all(answer).await;
                }
            });
        }
    });
    address
}

/// A UDP server that answers every datagram with what `answer` makes of it.
pub(crate) async fn answerer(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            for answer in answer(&buffer[..length]) {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    address
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Waits until something is so.
pub(crate) async fn patiently(what: &str, is_so: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < patience, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
