//! TCP clients that curl does not replace: many connections at once, and one client port again and again.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

const PATIENCE: Duration = Duration::from_secs(10);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";

/// Opens `count` connections and holds them all; says `open`, waits for a line on standard input, then asks once
/// on each and prints how often each server answered.
pub(crate) fn hold(server: SocketAddr, count: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)
            .map_err(|error| format!("connection {} of {count}: {error}", number + 1))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        open.push(stream);
    }
    println!("open");
    std::io::stdin().read_line(&mut String::new())?;
    for stream in &mut open {
        stream.write_all(REQUEST)?;
    }
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for stream in &mut open {
        *names.entry(body(stream)?).or_default() += 1;
    }
    for (name, count) in names {
        println!("server {name} {count}");
    }
    Ok(())
}

/// Opens connections one after another until one is refused or not answered within `wait`; asks on each, keeps
/// all open, prints a server's name a line, then `refused`, and stays until standard input ends.
pub(crate) fn fill(
    server: SocketAddr,
    most: usize,
    wait: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut open = Vec::new();
    for _ in 0..most {
        let Ok(mut stream) = TcpStream::connect_timeout(&server, wait) else {
            println!("refused");
            break;
        };
        stream.set_read_timeout(Some(wait))?;
        stream.write_all(REQUEST)?;
        println!("{}", body(&mut stream)?);
        open.push(stream);
    }
    println!("open");
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Connects `count` times from the same local port, each time after the last connection has been closed (or
/// cut off with a RST, when `reset`), and prints who answered.
pub(crate) fn reuse(
    from: u16,
    server: SocketAddr,
    count: usize,
    reset: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    for _ in 0..count {
        let socket = connect_from(from, server, reset)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        // The server closes first, so that TIME_WAIT is on its side and the client may come again at once.
        stream.write_all(if reset {
            REQUEST
        } else {
            b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
        })?;
        println!("{}", body(&mut stream)?);
        if !reset {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest)?;
        }
    }
    Ok(())
}

/// A connection from a local port, as soon as the port's last connection has left it.
fn connect_from(from: u16, server: SocketAddr, reset: bool) -> std::io::Result<Socket> {
    let start = Instant::now();
    loop {
        let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        // Lets the port be bound while an old connection of it waits in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(SocketAddr::from((super::any(server.is_ipv4()), from))))?;
        if reset {
            socket.set_linger(Some(Duration::ZERO))?;
        }
        match socket.connect_timeout(&SockAddr::from(server), PATIENCE) {
            Ok(()) => return Ok(socket),
            // The server's last ACK is still on its way.
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable && start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads one HTTP answer with a Content-Length and gives its body, trimmed.
pub(crate) fn body(stream: &mut TcpStream) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(format!("the server closed after {text:?}").into());
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let wanted = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= wanted.ok_or("an answer without Content-Length")?.parse()? {
                return Ok(body.trim().to_owned());
            }
        }
    }
}
