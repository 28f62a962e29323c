//! The library before programs of Python, whose modules call the C library as it is; at the other end stands a server that
//! sends back what it gets.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// What every program begins with: a socket as libnl makes it.
const BEGIN: &str = "
import errno, os, select, socket, struct, sys
def netlink(kind=socket.SOCK_RAW, flags=socket.SOCK_CLOEXEC):
    return socket.socket(socket.AF_NETLINK, kind | flags, 16)
def refused(work, reason):
    try:
        work()
    except OSError as error:
        assert error.errno == reason, error
    else:
        raise AssertionError('it was let through')
";

/// Where both doors are.
struct Doors(tempfile::TempDir);

impl Doors {
    fn new() -> Doors {
        Doors(tempfile::tempdir().expect("a new folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Answers each message with the same bytes, until the program's `quit`: with that it goes away with all its
    /// connections, and does not answer.
    fn serve_messages(&self) -> JoinHandle<usize> {
        let path = self.path("ipvs.sock");
        let _ = fs::remove_file(&path);
        let listener = Socket::new(Domain::UNIX, Type::SEQPACKET, None).expect("a socket");
        listener.bind(&SockAddr::unix(&path).expect("a short path")).expect("the path is free");
        listener.listen(8).expect("it listens");
        thread::spawn(move || {
            let all = Arc::new((listener.try_clone().expect("a second one"), Mutex::new(Vec::new())));
            let mut threads = Vec::new();
            while let Ok((connection, _)) = listener.accept() {
                let all = Arc::clone(&all);
                all.1.lock().expect("nobody panicked").push(connection.try_clone().expect("a second one"));
                threads.push(thread::spawn(move || {
                    let mut bytes = vec![0; 65536];
                    while let Ok(length @ 1..) = (&connection).read(&mut bytes) {
                        if bytes.starts_with(b"quit") {
                            let _ = all.0.shutdown(Shutdown::Both);
                            for other in all.1.lock().expect("nobody panicked").iter() {
                                let _ = other.shutdown(Shutdown::Both);
                            }
                            return;
                        }
                        (&connection).write_all(&bytes[..length]).expect("the program listens");
                    }
                }));
            }
            let served = threads.len();
            threads.into_iter().for_each(|thread| thread.join().expect("it has not panicked"));
            served
        })
    }

    /// Says which listing was asked for.
    fn serve_listings(&self) {
        let listener = UnixListener::bind(self.path("ipvs-proc.sock")).expect("the path is free");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                let mut name = String::new();
                BufReader::new(&stream).read_line(&mut name).expect("a name");
                stream.write_all(format!("listing of {name}").as_bytes()).expect("the program listens");
            }
        });
    }

    fn run(&self, program: &str) -> Output {
        let mut command = Command::new("python3");
        command.arg("-c").arg(format!("{BEGIN}{program}"));
        self.preload(&mut command).output().expect("python3 is installed (scripts/setup)")
    }

    fn preload<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("LD_PRELOAD", library())
            .env("FULCRUM_IPVS_SOCKET", self.path("ipvs.sock"))
            .env("FULCRUM_IPVS_PROC_SOCKET", self.path("ipvs-proc.sock"))
    }

    #[track_caller]
    fn passes(&self, program: &str) -> String {
        let output = self.run(program);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Cargo has made it for this test: beside the test program.
fn library() -> PathBuf {
    let here = std::env::current_exe().expect("a program has a path");
    let library = here.parent().map(|folder| folder.join("libfulcrum_preload.so"));
    library.filter(|library| library.exists()).expect("the library is built")
}

#[test]
fn a_generic_netlink_socket_is_a_connection_that_looks_like_one() {
    let doors = Doors::new();
    let server = doors.serve_messages();
    doors.passes(
        "
s = netlink()
assert s.getsockname() == (0, 0), s.getsockname()
s.bind((0, 0))
assert s.getsockname() == (os.getpid(), 0), s.getsockname()
s.bind((os.getpid(), 0))
refused(lambda: s.bind((12345, 0)), errno.EINVAL)
assert s.getpeername() == (0, 0)
assert not os.get_inheritable(s.fileno())
# Options that programs set, and those by which Python learns what a descriptor is.
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
for option in range(1, 13):
    s.setsockopt(270, option, 1)
again = socket.socket(fileno=os.dup(s.fileno()))
assert (again.family, again.type, again.proto) == (socket.AF_NETLINK, socket.SOCK_RAW, 16), again
assert again.getsockname() == (os.getpid(), 0)
# Messages keep their bounds; where they are sent to does not matter, and they come from the kernel.
s.sendto(b'first', (0, 0))
s.sendmsg([b'se', b'cond'], [], 0, (0, 0))
again.send(b'third')
assert s.recvfrom_into(bytearray(2), 2, socket.MSG_PEEK | socket.MSG_TRUNC) == (5, (0, 0))
assert again.recvfrom(65536) == (b'first', (0, 0))
data, control, flags, address = s.recvmsg(4)
assert (data, control, flags & socket.MSG_TRUNC, address) == (b'seco', [], socket.MSG_TRUNC, (0, 0))
assert s.recv(65536) == b'third'
s.sendto(b'x' * 16384, (0, 0))
assert len(s.recv(65536)) == 16384
refused(lambda: s.send(b'x' * 16385), errno.EMSGSIZE)
again.close()
s.close()
# The number is given to a file: it is nothing special.
f = open('/dev/zero', 'rb')
assert f.read(4) == bytes(4)
quick = netlink(socket.SOCK_DGRAM, socket.SOCK_NONBLOCK)
assert quick.type & socket.SOCK_DGRAM and not quick.getblocking()
refused(lambda: quick.recv(10), errno.EAGAIN)
refused(lambda: netlink(socket.SOCK_STREAM, 0), errno.ESOCKTNOSUPPORT)
netlink().send(b'quit')
",
    );
    assert_eq!(server.join().expect("it has ended"), 3);
}

#[test]
fn other_sockets_and_files_are_left_alone() {
    let doors = Doors::new();
    doors.passes(
        "
route = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
route.bind((0, 0))
# RTM_GETLINK, a dump.
route.send(struct.pack('=LHHLLBxHiLL', 32, 18, 0x301, 1, 0, 0, 0, 0, 0, 0))
assert len(route.recv(65536)) > 32
a, b = socket.socketpair()
a.send(b'hello')
assert os.dup(b.fileno()) and b.recv(10) == b'hello'
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 9)
assert udp.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 9
assert open('/proc/self/net/dev').read() and os.stat('/proc/net/dev')
",
    );
}

#[test]
fn without_fulcrum_control_there_is_no_ipvs() {
    let doors = Doors::new();
    doors.passes(
        "
refused(netlink, errno.ECONNREFUSED)
# Nor is the kernel asked: by socket options, listings, or settings.
raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for option in (1152, 1153, 1163, 1215):
    refused(lambda: raw.getsockopt(socket.IPPROTO_IP, option, 64), errno.ENOPROTOOPT)
    refused(lambda: raw.setsockopt(socket.IPPROTO_IP, option, bytes(44)), errno.ENOPROTOOPT)
for path in ('/proc/net/ip_vs', '/proc/self/net/ip_vs_conn', '/proc/sys/net/ipv4/vs/conntrack'):
    refused(lambda: open(path), errno.ENOENT)
    refused(lambda: os.stat(path), errno.ENOENT)
    assert not os.access(path, os.R_OK)
refused(lambda: open('/proc/sys/net/ipv4/vs/conntrack', 'w'), errno.ENOENT)
",
    );
    let output = doors
        .preload(Command::new("ipvsadm").arg("-Ln"))
        .output()
        .expect("ipvsadm is installed (scripts/setup)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("Can't initialize ipvs"), "{said}");
}

#[test]
fn listings_are_read_by_all_their_names() {
    let doors = Doors::new();
    doors.serve_listings();
    let listing = |name: &str| format!("listing of {name}\n");
    for (path, name) in [
        ("/proc/net/ip_vs", "ip_vs"),
        ("/proc/self/net/ip_vs_conn", "ip_vs_conn"),
        ("/proc/thread-self/net/ip_vs_stats_percpu", "ip_vs_stats_percpu"),
    ] {
        assert_eq!(doors.passes(&format!("print(open('{path}').read(), end='')")), listing(name));
        for program in
            [vec!["cat"], vec!["grep", "listing"], vec!["tail", "-n1"], vec!["perl", "-ne", "print"]]
        {
            let output = doors.preload(Command::new(program[0]).args(&program[1..]).arg(path)).output();
            assert_eq!(
                String::from_utf8_lossy(&output.expect("it runs").stdout),
                listing(name),
                "{program:?}"
            );
        }
    }
    let script = "
        test -r /proc/net/ip_vs && test -f /proc/net/ip_vs && ! test -e /proc/net/ip_vs_app
        read -r line </proc/net/ip_vs_stats; echo \"$line\"
        awk '{print $3}' /proc/net/ip_vs_conn_sync";
    let output = doors.preload(Command::new("bash").args(["-euc", script])).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), listing("ip_vs_stats") + "ip_vs_conn_sync\n");
    doors.passes("refused(lambda: os.open('/proc/net/ip_vs', os.O_RDWR), errno.EACCES)");
}

/// Starts it with pipes for what is said to it and what it says.
struct Program(Child, BufReader<ChildStdout>);

impl Program {
    fn start(doors: &Doors, program: &str) -> Program {
        let mut command = Command::new("python3");
        command.arg("-c").arg(format!("{BEGIN}{program}")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = doors.preload(&mut command).spawn().expect("python3 is installed (scripts/setup)");
        let said = child.stdout.take().expect("it has a pipe");
        Program(child, BufReader::new(said))
    }

    #[track_caller]
    fn hear(&mut self, line: &str) {
        let mut said = String::new();
        self.1.read_line(&mut said).expect("it is read");
        assert_eq!(said.trim_end(), line);
    }

    fn go_on(&mut self) {
        writeln!(self.0.stdin.as_mut().expect("it has a pipe")).expect("it listens");
    }
}

#[test]
fn a_socket_outlives_the_other_end() {
    let doors = Doors::new();
    let server = doors.serve_messages();
    let mut program = Program::start(
        &doors,
        "
def say(line):
    print(line, flush=True)
    sys.stdin.readline()
s = netlink()
s.bind((0, 0))
other = netlink(flags=socket.SOCK_NONBLOCK)
poll = select.epoll()
poll.register(s.fileno(), select.EPOLLIN)
s.send(b'one')
assert s.recv(100) == b'one'
other.send(b'quit')
say('ended')
# Another one is there. Who watches the socket goes on watching it.
s.send(b'two')
assert poll.poll(5) == [(s.fileno(), select.EPOLLIN)]
assert s.recv(100) == b'two'
assert s.getsockname() == (os.getpid(), 0) and not os.get_inheritable(s.fileno())
other.send(b'quit')
say('ended again')
# None is there, for a moment.
s.send(b'three')
assert s.recv(100, socket.MSG_PEEK) == b'three'
assert s.recv(100) == b'three'
# Whoever was asked goes away without an answer: it is asked again, at the next one.
s.send(b'quit')
say('asked')
refused(lambda: s.recv(100), errno.ECONNRESET)
# Nor does anybody come: that has an end, at once where a program does not wait.
refused(lambda: other.send(b'four'), errno.ECONNREFUSED)
refused(lambda: s.send(b'four'), errno.ECONNREFUSED)
print('end', flush=True)
",
    );
    program.hear("ended");
    assert_eq!(server.join().expect("it has ended"), 2);
    let server = doors.serve_messages();
    program.go_on();
    program.hear("ended again");
    assert_eq!(server.join().expect("it has ended"), 2);
    program.go_on();
    thread::sleep(Duration::from_millis(200));
    let server = doors.serve_messages();
    program.hear("asked");
    assert_eq!(server.join().expect("it has ended"), 1);
    let server = doors.serve_messages();
    program.go_on();
    // The same question ended this one, too.
    assert_eq!(server.join().expect("it has ended"), 1);
    fs::remove_file(doors.path("ipvs.sock")).expect("the last one has left it");
    program.hear("end");
    assert!(program.0.wait().is_ok_and(|status| status.success()));
}
