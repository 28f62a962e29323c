//! UDP: a server that answers with its name, and clients that count who answered.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Answers every datagram with `NAME PAYLOAD` until it is ended.
pub(crate) fn serve(name: &str, listen: &[SocketAddr]) -> Result<(), Box<dyn std::error::Error>> {
    let mut threads = Vec::new();
    for address in listen {
        let (socket, name) = (UdpSocket::bind(address)?, name.to_owned());
        threads.push(thread::spawn(move || {
            let mut buffer = vec![0; 65535];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let answer = [name.as_bytes(), b" ", &buffer[..length]].concat();
                // A client that is gone already (ICMP) is no reason to stop.
                let _ = socket.send_to(&answer, client);
            }
        }));
    }
    println!("ready");
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Err("no socket is left".into())
}

/// Asks `count` times, always from port `from` or from a new one each time, and prints the names that came back,
/// one a line, `-` for none.
pub(crate) fn ask(
    server: SocketAddr,
    count: u32,
    wait: Duration,
    from: Option<u16>,
) -> Result<(), Box<dyn std::error::Error>> {
    // Kept open: the kernel would give a port that is free again a second time.
    let mut open = Vec::new();
    for number in 0..count {
        let socket = UdpSocket::bind((super::any(server.is_ipv4()), from.unwrap_or(0)))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(wait))?;
        let question = number.to_string();
        socket.send(question.as_bytes())?;
        println!("{}", answer(&socket, &question).unwrap_or_else(|| "-".to_owned()));
        if from.is_none() {
            open.push(socket);
        }
    }
    Ok(())
}

/// Keeps `flows` flows busy with one datagram each per `gap`, for `duration`; prints sent, answered, and
/// how often each server answered.
pub(crate) fn load(
    server: SocketAddr,
    flows: usize,
    gap: Duration,
    duration: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut sockets = Vec::new();
    for _ in 0..flows {
        let socket = UdpSocket::bind((super::any(server.is_ipv4()), 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        sockets.push(socket);
    }
    let mut answers: BTreeMap<String, u64> = BTreeMap::new();
    let mut sent = 0u64;
    let mut drain = |sockets: &[UdpSocket]| {
        let mut buffer = [0; 2048];
        for socket in sockets {
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                let name = text.split(' ').next().unwrap_or("").to_owned();
                *answers.entry(name).or_default() += 1;
            }
        }
    };
    let start = Instant::now();
    let mut next = start;
    while start.elapsed() < duration {
        for socket in &sockets {
            // A refused datagram is one that was not answered.
            sent += 1;
            let _ = socket.send(sent.to_string().as_bytes());
        }
        next += gap;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        drain(&sockets);
    }
    std::thread::sleep(Duration::from_millis(500));
    drain(&sockets);
    println!("sent {sent}");
    println!("answered {}", answers.values().sum::<u64>());
    for (name, count) in answers {
        println!("server {name} {count}");
    }
    Ok(())
}

/// The name in the answer to `question`.
fn answer(socket: &UdpSocket, question: &str) -> Option<String> {
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).ok()?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let (name, echoed) = text.split_once(' ')?;
    (echoed == question).then(|| name.to_owned())
}
