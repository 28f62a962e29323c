//! The clients of a soak: ask every service all the time and say, a line each, what came of it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::super::connections::body;

/// How long an answer may take. A SYN that a busy machine loses is sent again after a second.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between the requests of one client.
const GAP: Duration = Duration::from_millis(40);
/// Between two requests on a connection that is kept.
const KEPT_GAP: Duration = Duration::from_millis(300);
/// Requests on a connection that is kept, until it is closed: more than a drain lasts.
const KEPT_ASKS: u32 = 60;

/// What one request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTTP on a connection of its own.
    New,
    /// HTTP on a connection that has carried others.
    Kept,
    /// Datagrams from a port of their own.
    Datagram,
}

impl Kind {
    const ALL: [(Kind, &str); 3] = [(Kind::New, "new"), (Kind::Kept, "kept"), (Kind::Datagram, "udp")];

    /// Its word in a line.
    pub(crate) fn name(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// What came of a request; times are milliseconds of the clock on the wall.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) kind: Kind,
    /// Number of the service among those asked.
    pub(crate) service: usize,
    /// When the connection was asked for.
    pub(crate) opened: u64,
    /// When it was there, or never would be: its server was chosen in between.
    pub(crate) made: u64,
    pub(crate) asked: u64,
    pub(crate) ended: u64,
    /// The answer, or why there is none.
    pub(crate) answer: Result<String, String>,
}

impl Outcome {
    fn line(&self) -> String {
        let Outcome { kind, service, opened, made, asked, ended, answer } = self;
        let (word, text) = match answer {
            Ok(text) => ("answer", text),
            Err(text) => ("failure", text),
        };
        let text = text.replace('\n', " ");
        format!("{} {service} {opened} {made} {asked} {ended} {word} {text}", kind.name())
    }

    /// Reads a line of [`ask`].
    pub(crate) fn read(line: &str) -> Option<Outcome> {
        let words: Vec<&str> = line.splitn(8, ' ').collect();
        let [kind, service, opened, made, asked, ended, word, text] = words[..] else { return None };
        Some(Outcome {
            kind: Kind::ALL.iter().find(|(_, name)| *name == kind)?.0,
            service: service.parse().ok()?,
            opened: opened.parse().ok()?,
            made: made.parse().ok()?,
            asked: asked.parse().ok()?,
            ended: ended.parse().ok()?,
            answer: if word == "answer" { Ok(text.to_owned()) } else { Err(text.to_owned()) },
        })
    }
}

/// Milliseconds of the clock on the wall.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Asks services, written `http=ADDRESS` or `udp=ADDRESS`, until standard input ends.
pub(crate) fn ask(services: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let (tell, outcomes) = channel();
    for (service, text) in services.iter().enumerate() {
        let (kind, address) = text.split_once('=').ok_or_else(|| format!("`{text}` is no service"))?;
        let address: SocketAddr = address.parse()?;
        let kinds: &[Kind] = if kind == "http" { &[Kind::New, Kind::Kept] } else { &[Kind::Datagram] };
        for kind in kinds {
            let (kind, tell) = (*kind, tell.clone());
            thread::spawn(move || match kind {
                Kind::Kept => keep(service, address, &tell),
                _ => once(kind, service, address, &tell),
            });
        }
    }
    drop(tell);
    thread::spawn(|| {
        for line in BufReader::new(std::io::stdin()).lines() {
            if line.is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    let mut out = std::io::stdout().lock();
    for outcome in outcomes {
        writeln!(out, "{}", Outcome::line(&outcome))?;
    }
    Ok(())
}

/// One request after another, each by itself.
fn once(kind: Kind, service: usize, address: SocketAddr, tell: &Sender<Outcome>) {
    for number in 0u64.. {
        let (asked, mut made) = (now(), None);
        let answer = match kind {
            Kind::Datagram => datagram(address, number),
            _ => connect(address).and_then(|mut stream| {
                made = Some(now());
                request(&mut stream, number, "close")
            }),
        };
        let (answer, ended) = (answer.map_err(|error| error.to_string()), now());
        let made = made.unwrap_or(ended);
        let outcome = Outcome { kind, service, opened: asked, made, asked, ended, answer };
        if tell.send(outcome).is_err() {
            return;
        }
        thread::sleep(GAP);
    }
}

/// Many requests on one connection, then on the next one.
fn keep(service: usize, address: SocketAddr, tell: &Sender<Outcome>) {
    let say = |(opened, made), asked, answer: Result<String, Failure>| {
        let answer = answer.map_err(|error| error.to_string());
        let outcome = Outcome { kind: Kind::Kept, service, opened, made, asked, ended: now(), answer };
        tell.send(outcome).is_ok()
    };
    let mut number = 0;
    loop {
        let opened = now();
        let mut stream = match connect(address) {
            Ok(stream) => stream,
            Err(error) => {
                if !say((opened, now()), opened, Err(error)) {
                    return;
                }
                thread::sleep(KEPT_GAP);
                continue;
            }
        };
        let opened = (opened, now());
        for _ in 0..KEPT_ASKS {
            number += 1;
            let (asked, answer) = (now(), request(&mut stream, number, "keep-alive"));
            let broken = answer.is_err();
            if !say(opened, asked, answer) {
                return;
            }
            thread::sleep(KEPT_GAP);
            if broken {
                break;
            }
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks for a path that nobody else asks for; an answer to another question is one as well.
fn request(stream: &mut TcpStream, number: u64, connection: &str) -> Result<String, Failure> {
    let path = format!("/{number}-{}", stream.local_addr()?.port());
    let text = format!("GET {path} HTTP/1.1\r\nHost: soak\r\nConnection: {connection}\r\n\r\n");
    stream.write_all(text.as_bytes())?;
    let answer = body(stream)?;
    Ok(match answer.strip_suffix(&path) {
        Some(name) => name.trim().to_owned(),
        None => format!("{answer} instead of {path}"),
    })
}

/// Asks by UDP, up to three times: a busy machine loses some.
fn datagram(address: SocketAddr, number: u64) -> Result<String, Failure> {
    let socket = UdpSocket::bind((super::super::any(address.is_ipv4()), 0))?;
    socket.connect(address)?;
    let question = format!("{number}-{}", socket.local_addr()?.port());
    let start = Instant::now();
    let mut last = String::new();
    for _ in 0..3 {
        socket.set_read_timeout(Some(PATIENCE / 4))?;
        let answer = socket.send(question.as_bytes()).and_then(|_| {
            let mut buffer = [0; 2048];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        });
        match answer {
            Ok(text) => {
                return Ok(match text.strip_suffix(&question) {
                    Some(name) => name.trim().to_owned(),
                    None => format!("{text} instead of {question}"),
                });
            }
            Err(error) => last = error.to_string(),
        }
        // A refused datagram is one that comes back at once.
        thread::sleep(GAP);
    }
    Err(format!("{last}, three times in {:.1} s", start.elapsed().as_secs_f64()).into())
}

#[cfg(test)]
mod tests {
    use super::{Kind, Outcome};

    #[test]
    fn outcomes_are_read_as_they_were_written() {
        let outcome = Outcome {
            kind: Kind::Kept,
            service: 3,
            opened: 1,
            made: 19,
            asked: 20,
            ended: 300,
            answer: Ok("web1 192.168.20.7:8081".into()),
        };
        assert_eq!(Outcome::read(&outcome.line()), Some(outcome.clone()));
        let failed = Outcome { answer: Err("timed out".into()), ..outcome };
        assert_eq!(Outcome::read(&failed.line()), Some(failed));
        assert_eq!(Outcome::read("kept 3 1 20"), None);
    }
}
