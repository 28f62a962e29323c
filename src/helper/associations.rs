//! SCTP through raw sockets, for kernels that have none: a server that answers with its name, and clients that
//! open an association, ask, and shut it down (RFC 9260, as far as that takes).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use fulcrum_packet::ports::Ports;
use fulcrum_packet::sctp::{self, Chunk, HEADER, Header, Packet};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Protocol number of SCTP.
const PROTOCOL: i32 = 132;
/// Receive window that both ends offer.
const WINDOW: u32 = 65_536;
/// Parameter type: state cookie.
const COOKIE: u16 = 7;
/// Flags of a message in one chunk: beginning and end.
const WHOLE: u8 = 3;
/// How often a packet is sent before nobody is thought to be there.
const TRIES: u32 = 3;

/// Answers each message of each association with `NAME MESSAGE` until it is ended. Packets with a wrong checksum
/// or tag are told and ignored.
pub(crate) fn serve(listen: SocketAddr, name: &str) -> Result<(), Box<dyn std::error::Error>> {
    let wire = Wire::open(listen.ip())?;
    println!("ready");
    let mut open: HashMap<(IpAddr, u16), Association> = HashMap::new();
    loop {
        let packet = wire.receive(None)?;
        if packet.to_port != listen.port() {
            continue;
        }
        let client = (packet.from, packet.from_port);
        let answer = |tag, chunks: &[Chunk<'_>]| {
            wire.send(packet.from, (listen.port(), packet.from_port), tag, chunks)
        };
        for (kind, value) in &packet.chunks {
            match (*kind, open.get_mut(&client)) {
                (sctp::INIT, _) if packet.tag == 0 => {
                    let Some(init) = Init::read(value) else { continue };
                    // What the client said comes back in its cookie: nothing is remembered before.
                    let mine = Init { tag: init.tag ^ 0x5a5a_5a5a | 1, tsn: 1000 };
                    let cookie = [init.write(), mine.write()].concat();
                    answer(init.tag, &[chunk(sctp::INIT_ACK, &mine.write_with_cookie(&cookie))])?;
                }
                (sctp::COOKIE_ECHO, _) => {
                    let (Some(theirs), Some(mine)) =
                        (Init::read(value), value.get(Init::LENGTH..).and_then(Init::read))
                    else {
                        continue;
                    };
                    if packet.tag != mine.tag {
                        eprintln!("{client:?}: a cookie under tag {:#x}", packet.tag);
                        continue;
                    }
                    let association = Association { tag: theirs.tag, own_tag: mine.tag, tsn: mine.tsn };
                    open.insert(client, association);
                    answer(theirs.tag, &[chunk(sctp::COOKIE_ACK, &[])])?;
                }
                (_, Some(association)) if packet.tag != association.own_tag => {
                    eprintln!("{client:?}: chunk {kind} under tag {:#x}", packet.tag);
                }
                (sctp::DATA, Some(association)) => {
                    let Some((tsn, question)) = Data::read(value) else { continue };
                    let text = [name.as_bytes(), b" ", question].concat();
                    let data = Data { tsn: association.tsn }.write(&text);
                    association.tsn = association.tsn.wrapping_add(1);
                    let data = Chunk { kind: sctp::DATA, flags: WHOLE, value: &data };
                    answer(association.tag, &[chunk(sctp::SACK, &sack(tsn)), data])?;
                }
                (sctp::SHUTDOWN, Some(association)) => {
                    answer(association.tag, &[chunk(sctp::SHUTDOWN_ACK, &[])])?;
                }
                (sctp::SHUTDOWN_COMPLETE | sctp::ABORT, Some(_)) => {
                    println!("closed {} {}", client.0, client.1);
                    open.remove(&client);
                }
                (sctp::SACK, _) => {}
                (kind, _) => eprintln!("{client:?}: chunk {kind} is nobody's"),
            }
        }
    }
}

/// Opens `count` associations one after another, from port `from` on, asks once on each and shuts it down; prints the
/// names that came back, one a line, `-` for none.
pub(crate) fn ask(
    server: SocketAddr,
    count: u16,
    wait: Duration,
    from: u16,
) -> Result<(), Box<dyn std::error::Error>> {
    let any: IpAddr = if server.is_ipv6() { "::".parse()? } else { "0.0.0.0".parse()? };
    let wire = Wire::open(any)?;
    for number in 0..count {
        let client = Client { wire: &wire, server, port: from + number, wait };
        match client.run(&number.to_string()) {
            Ok(name) => println!("{name}"),
            Err(error) => {
                eprintln!("association {number}: {error}");
                println!("-");
            }
        }
    }
    Ok(())
}

struct Client<'a> {
    wire: &'a Wire,
    server: SocketAddr,
    port: u16,
    wait: Duration,
}

impl Client<'_> {
    /// A whole association; the name that answered.
    fn run(&self, question: &str) -> Result<String, Box<dyn std::error::Error>> {
        let mine = Init { tag: 0x1000_0000 | u32::from(self.port), tsn: 1 };
        let init = self.exchange(0, mine.tag, &[chunk(sctp::INIT, &mine.write())], sctp::INIT_ACK)?;
        let theirs = Init::read(&init).ok_or("INIT ACK is too short")?;
        let cookie = Init::cookie(&init).ok_or("INIT ACK has no cookie")?;
        let echo = [chunk(sctp::COOKIE_ECHO, cookie)];
        self.exchange(theirs.tag, mine.tag, &echo, sctp::COOKIE_ACK)?;

        let data = Data { tsn: mine.tsn }.write(question.as_bytes());
        let data = [Chunk { kind: sctp::DATA, flags: WHOLE, value: &data }];
        let answer = self.exchange(theirs.tag, mine.tag, &data, sctp::DATA)?;
        let (seen, text) = Data::read(&answer).ok_or("DATA is too short")?;
        let text = String::from_utf8_lossy(text).into_owned();
        let name = text.strip_suffix(question).map(str::trim_end).ok_or("another question was answered")?;

        let ports = (self.port, self.server.port());
        self.wire.send(self.server.ip(), ports, theirs.tag, &[chunk(sctp::SACK, &sack(seen))])?;
        let seen = seen.to_be_bytes();
        self.exchange(theirs.tag, mine.tag, &[chunk(sctp::SHUTDOWN, &seen)], sctp::SHUTDOWN_ACK)?;
        self.wire.send(self.server.ip(), ports, theirs.tag, &[chunk(sctp::SHUTDOWN_COMPLETE, &[])])?;
        Ok(name.to_owned())
    }

    /// Sends chunks until one of type `wanted` comes back, and gives its value.
    fn exchange(&self, tag: u32, own_tag: u32, chunks: &[Chunk<'_>], wanted: u8) -> Result<Vec<u8>, String> {
        for _ in 0..TRIES {
            let ports = (self.port, self.server.port());
            self.wire.send(self.server.ip(), ports, tag, chunks).map_err(|error| error.to_string())?;
            let deadline = Instant::now() + self.wait / TRIES;
            while let Ok(packet) = self.wire.receive(Some(deadline)) {
                let ours = packet.from == self.server.ip()
                    && (packet.from_port, packet.to_port) == (self.server.port(), self.port);
                if ours && packet.tag != own_tag {
                    return Err(format!("an answer under tag {:#x} instead of {own_tag:#x}", packet.tag));
                }
                let found = packet.chunks.into_iter().find(|&(kind, _)| kind == wanted);
                if let Some((_, value)) = found.filter(|_| ours) {
                    return Ok(value);
                }
            }
        }
        Err(format!("no answer of chunk type {wanted}"))
    }
}

/// What the server knows of a client.
struct Association {
    /// The client's verification tag, and ours.
    tag: u32,
    own_tag: u32,
    /// Number of our next data.
    tsn: u32,
}

/// The value of a chunk that acknowledges all data up to a number.
fn sack(seen: u32) -> Vec<u8> {
    [&seen.to_be_bytes()[..], &WINDOW.to_be_bytes(), &[0; 4]].concat()
}

/// The fixed part of INIT and INIT ACK.
struct Init {
    tag: u32,
    tsn: u32,
}

impl Init {
    const LENGTH: usize = 16;

    fn read(value: &[u8]) -> Option<Init> {
        Some(Init { tag: u32_at(value, 0)?, tsn: u32_at(value, 12)? })
    }

    fn write(&self) -> Vec<u8> {
        let streams = [0, 1, 0, 1];
        [&self.tag.to_be_bytes()[..], &WINDOW.to_be_bytes(), &streams, &self.tsn.to_be_bytes()].concat()
    }

    fn write_with_cookie(&self, cookie: &[u8]) -> Vec<u8> {
        let length = (cookie.len() + 4) as u16;
        [&self.write()[..], &COOKIE.to_be_bytes(), &length.to_be_bytes(), cookie].concat()
    }

    /// The cookie behind the fixed part.
    fn cookie(value: &[u8]) -> Option<&[u8]> {
        let parameter = value.get(Init::LENGTH..)?;
        let length = usize::from(u16::from_be_bytes([*parameter.get(2)?, *parameter.get(3)?]));
        (parameter[..2] == COOKIE.to_be_bytes()).then(|| parameter.get(4..length)).flatten()
    }
}

/// The fixed part of a DATA chunk.
struct Data {
    tsn: u32,
}

impl Data {
    const HEADER: usize = 12;

    /// The number and the message of a chunk.
    fn read(value: &[u8]) -> Option<(u32, &[u8])> {
        Some((u32_at(value, 0)?, value.get(Data::HEADER..)?))
    }

    fn write(&self, text: &[u8]) -> Vec<u8> {
        [&self.tsn.to_be_bytes()[..], &[0; 8], text].concat()
    }
}

/// A received packet whose checksum was right.
struct Received {
    from: IpAddr,
    from_port: u16,
    to_port: u16,
    tag: u32,
    chunks: Vec<(u8, Vec<u8>)>,
}

/// A raw socket for SCTP; std knows how to send and receive with one.
struct Wire {
    socket: UdpSocket,
}

impl Wire {
    fn open(local: IpAddr) -> io::Result<Wire> {
        let domain = if local.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(PROTOCOL)))?;
        socket.bind(&SockAddr::from(SocketAddr::new(local, 0)))?;
        Ok(Wire { socket: socket.into() })
    }

    fn send(&self, to: IpAddr, ports: (u16, u16), tag: u32, chunks: &[Chunk<'_>]) -> io::Result<()> {
        let length = HEADER + chunks.iter().map(Chunk::emitted_len).sum::<usize>();
        let mut bytes = vec![0; length];
        Header { src_port: ports.0, dst_port: ports.1, tag }.emit(&mut bytes);
        let mut at = HEADER;
        for chunk in chunks {
            chunk.emit(&mut bytes[at..]);
            at += chunk.emitted_len();
        }
        if let Ok(mut packet) = Packet::new_checked(&mut bytes[..]) {
            packet.fill_checksum();
        }
        self.socket.send_to(&bytes, (to, 0)).map(drop)
    }

    /// The next packet, whoever it is for; an error when the time is over.
    fn receive(&self, deadline: Option<Instant>) -> io::Result<Received> {
        let mut buffer = [0; 65535];
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(left)?;
            let (length, from) = self.socket.recv_from(&mut buffer)?;
            // IPv4 raw sockets give the IP header too.
            let header = if from.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
            match buffer[..length].get(header..).and_then(|bytes| read(from.ip(), bytes)) {
                Some(received) => return Ok(received),
                None => eprintln!("{from}: a packet of {length} bytes is cut or its checksum wrong"),
            }
        }
    }
}

fn read(from: IpAddr, bytes: &[u8]) -> Option<Received> {
    let packet = Packet::new_checked(bytes).ok().filter(Packet::checksum_ok)?;
    let ports = Ports::new_checked(bytes).ok()?;
    let chunks = packet.chunks().map(|chunk| (chunk.kind, chunk.value.to_vec())).collect();
    Some(Received { from, from_port: ports.src(), to_port: ports.dst(), tag: packet.tag(), chunks })
}

fn chunk(kind: u8, value: &[u8]) -> Chunk<'_> {
    Chunk { kind, flags: 0, value }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
