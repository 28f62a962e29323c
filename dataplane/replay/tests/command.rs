//! The `replay` command on real files: both kinds of capture, set-up lines, verdicts, and what it refuses.

use std::fs;
use std::path::{Path, PathBuf};

use fulcrum_replay::capture::{CaptureError, Format, Frame, Reader, Writer};
use fulcrum_replay::{Args, Error, Summary, run};

const SECOND: u64 = 1_000_000_000;
/// When the captures were taken.
const NOON: u64 = 1_700_000_000 * SECOND;
const MICROSECONDS: Format = Format::Pcap { nanoseconds: false, big_endian: false };
const PCAPNG: Format = Format::PcapNg { big_endian: false };

const CONFIG: &str = r#"
[dataplane]
sessions = 1024
[[port]]
name = "wan"
device = "eth0"
[[port]]
name = "lan"
device = "eth1"
mac = "02:00:00:00:02:01"
[[interface]]
name = "wan"
port = "wan"
addresses = ["10.0.0.1/24", "10.0.0.100/32", "2001:db8::1/64"]
[[interface]]
name = "lan"
port = "lan"
addresses = ["10.1.0.1/24", "2001:db8:1::1/64"]
[[neighbour]]
address = "10.0.0.2"
mac = "02:00:00:00:01:02"
interface = "wan"
[[neighbour]]
address = "10.1.0.11"
mac = "02:00:00:00:02:0b"
interface = "lan"
[[neighbour]]
address = "10.1.0.12"
mac = "02:00:00:00:02:0c"
interface = "lan"
[[service]]
address = "10.0.0.100:80"
protocol = "tcp"
scheduler = "rr"
[[service.server]]
address = "10.1.0.11:8000"
forward = "nat"
"#;

/// A folder of its own for one test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-{test}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.file(name), content).unwrap();
        self.file(name)
    }

    /// Arguments for `in` and the configuration above.
    fn args(&self) -> Args {
        Args {
            config: self.write("fulcrum.toml", CONFIG),
            ipvsadm: None,
            input: self.file("in"),
            output: self.file("out"),
            verdicts: Some(self.file("verdicts")),
            port: None,
            workers: 1,
            seed: 1,
        }
    }

    /// Writes the capture `in`: (seconds after noon, port number, frame).
    fn capture(&self, format: Format, ports: &[&str], frames: &[(u64, u16, Vec<u8>)]) {
        let mut writer = Writer::create(&self.file("in"), format, ports.iter().copied()).unwrap();
        for (second, port, bytes) in frames {
            writer.write(NOON + second * SECOND, *port, bytes).unwrap();
        }
        writer.finish().unwrap();
    }

    fn verdicts(&self) -> Vec<String> {
        fs::read_to_string(self.file("verdicts")).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn frames(path: &Path) -> Vec<Frame> {
    let mut reader = Reader::open(path).unwrap();
    std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
}

fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// A TCP segment with these flags, without data.
fn tcp(macs: [u8; 12], src: ([u8; 4], u16), dst: ([u8; 4], u16), flags: u8) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0];
    ip.extend([src.0, dst.0].concat());
    let check = sum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&check);
    let mut segment = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    let pseudo = [&src.0[..], &dst.0[..], &[0, 6, 0, 20], &segment].concat();
    let check = sum(&pseudo).to_be_bytes();
    segment[16..18].copy_from_slice(&check);
    [&macs[..], &[8, 0], &ip, &segment].concat()
}

const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const CLIENT: [u8; 4] = [10, 0, 0, 2];
const VIP: [u8; 4] = [10, 0, 0, 100];
const SERVER: [u8; 4] = [10, 1, 0, 11];

/// A segment from the client to the VIP. The wan port has no configured MAC address: it is the first port.
fn from_client(port: u16, flags: u8) -> Vec<u8> {
    tcp([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 2], (CLIENT, port), (VIP, 80), flags)
}

fn from_server(port: u16, flags: u8) -> Vec<u8> {
    tcp([2, 0, 0, 0, 2, 1, 2, 0, 0, 0, 2, 11], (SERVER, 8000), (CLIENT, port), flags)
}

/// Destination address and port of a TCP frame.
fn towards(frame: &[u8]) -> ([u8; 4], u16) {
    (frame[30..34].try_into().unwrap(), u16::from_be_bytes([frame[36], frame[37]]))
}

#[test]
fn a_conversation_in_pcapng() {
    let folder = Folder::new("conversation");
    // The capture numbers its interfaces another way round than the configuration its ports.
    folder.capture(
        PCAPNG,
        &["lan", "wan"],
        &[
            (0, 1, from_client(4001, SYN)),
            (1, 0, from_server(4001, SYN_ACK)),
            (2, 1, from_client(4001, ACK)),
            (3, 1, from_client(4002, ACK)),
            (4, 0, vec![1, 2, 3]),
        ],
    );
    let summary = run(&folder.args()).unwrap();
    assert_eq!(summary, Summary { frames_in: 5, frames_out: 4, notes: vec![] });

    let out = frames(&folder.file("out"));
    let seen: Vec<_> = out
        .iter()
        .map(|f| ((f.time - NOON) / SECOND, f.interface.as_deref().unwrap(), towards(&f.bytes)))
        .collect();
    assert_eq!(
        seen,
        [
            (0, "lan", (SERVER, 8000)),
            (1, "wan", (CLIENT, 4001)),
            (2, "lan", (SERVER, 8000)),
            (3, "wan", (CLIENT, 4002))
        ]
    );
    let to_server = r#""service":"TCP 10.0.0.100:80","server":"10.1.0.11:8000""#;
    let nobody = r#""service":null,"server":null"#;
    assert_eq!(
        folder.verdicts(),
        [
            format!(r#"{{"frame":1,"verdict":"forward","reason":"forwarded.nat",{to_server},"out":[1]}}"#),
            format!(r#"{{"frame":2,"verdict":"forward","reason":"forwarded.reply",{to_server},"out":[2]}}"#),
            format!(r#"{{"frame":3,"verdict":"forward","reason":"forwarded.nat",{to_server},"out":[3]}}"#),
            format!(r#"{{"frame":4,"verdict":"drop","reason":"no-session",{nobody},"out":[4]}}"#),
            format!(r#"{{"frame":5,"verdict":"drop","reason":"truncated",{nobody},"out":[]}}"#),
        ]
    );
}

#[test]
fn plain_pcap_keeps_its_kind_and_comes_in_by_the_first_port_or_the_given_one() {
    for (format, unit) in [(MICROSECONDS, 1000), (Format::Pcap { nanoseconds: true, big_endian: true }, 1)] {
        let folder = Folder::new(&format!("plain-{unit}"));
        folder.capture(format, &[], &[(0, 0, from_client(4001, SYN))]);
        let mut args = folder.args();
        assert_eq!(run(&args).unwrap().frames_out, 1);
        assert_eq!(Reader::open(&folder.file("out")).unwrap().format(), format);
        let out = frames(&folder.file("out"));
        assert_eq!((out[0].time, &out[0].interface), (NOON, &None));

        // By the lan it is for another station.
        args.port = Some("lan".to_owned());
        assert_eq!(run(&args).unwrap().frames_out, 0);
        assert!(folder.verdicts()[0].contains("other-station"));
    }
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = Folder::new("deterministic");
    let mut traffic = Vec::new();
    for n in 0..60 {
        traffic.push((n / 7, 0, from_client(4000 + n as u16 % 20, [SYN, ACK, ACK, 1][n as usize % 4])));
        traffic.push((n / 7, 1, from_server(4000 + n as u16 % 20, ACK)));
    }
    folder.capture(PCAPNG, &["wan", "lan"], &traffic);
    let mut args = folder.args();
    let output = |args: &Args| {
        run(args).unwrap();
        (fs::read(&args.output).unwrap(), fs::read(folder.file("verdicts")).unwrap())
    };
    let first = output(&args);
    assert_eq!(first, output(&args));
    // Nothing here is left to chance, and which worker a frame meets must not matter.
    for (workers, seed) in [(3, 1), (8, 99)] {
        (args.workers, args.seed) = (workers, seed);
        assert_eq!(first, output(&args), "{workers} workers");
    }
}

#[test]
fn setup_lines_apply_at_the_start_and_before_frames() {
    let folder = Folder::new("setup");
    let syn = |n: u16| (u64::from(n), 0, from_client(4000 + n, SYN));
    folder.capture(MICROSECONDS, &[], &[syn(1), syn(2), syn(3), (4, 0, from_client(4009, ACK))]);
    let mut args = folder.args();
    args.ipvsadm = Some(folder.write(
        "setup",
        "# a comment\n\n@4 sysctl -qw net.ipv4.vs.sloppy_tcp=1\n\
         ipvsadm -a -t 10.0.0.100:80 -r 10.1.0.12:8000 -m\n\
         @3 -d -t 10.0.0.100:80 -r 10.1.0.12:8000\n",
    ));
    run(&args).unwrap();
    let servers: Vec<_> = frames(&folder.file("out")).iter().map(|f| towards(&f.bytes).0[3]).collect();
    assert_eq!(servers, [12, 11, 11, 11]);
    assert!(folder.verdicts()[3].contains("forwarded.nat"), "a segment that is no SYN opens a session now");
}

/// A TCP segment of IPv6 with these flags, without data.
fn tcp6(macs: [u8; 12], src: (&str, u16), dst: (&str, u16), flags: u8) -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let ends = [address(src.0), address(dst.0)].concat();
    let mut segment = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    let pseudo = [&ends[..], &[0, 0, 0, 20, 0, 0, 0, 6], &segment].concat();
    let check = sum(&pseudo).to_be_bytes();
    segment[16..18].copy_from_slice(&check);
    [&macs[..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64], &ends, &segment].concat()
}

#[test]
fn ipv6_by_mark() {
    let folder = Folder::new("six");
    let to_wan = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 1, 2];
    let to_lan = [2, 0, 0, 0, 2, 1, 2, 0, 0, 0, 2, 11];
    let (client, server, vip) = ("2001:db8::2", "2001:db8:1::b", "2001:db8:99::7");
    folder.capture(
        PCAPNG,
        &["wan", "lan"],
        &[
            (0, 0, tcp6(to_wan, (client, 4001), (vip, 443), SYN)),
            (1, 1, tcp6(to_lan, (server, 443), (client, 4001), SYN_ACK)),
            (2, 0, tcp6(to_wan, (client, 4001), (vip, 22), SYN)),
        ],
    );
    let mut args = folder.args();
    args.ipvsadm = Some(folder.write(
        "setup",
        "ip6tables -t mangle -A PREROUTING -i eth0 -d 2001:db8:99::/48 -p tcp --dport 443 -j MARK --set-mark 9\n\
         ipvsadm -A -f 9 -6 -s rr\n\
         ipvsadm -a -f 9 -6 -r [2001:db8:1::b]:0 -m\n",
    ));
    let config = format!(
        "{CONFIG}\n[[neighbour]]\naddress = \"{client}\"\nmac = \"02:00:00:00:01:02\"\ninterface = \"wan\"\n\
         [[neighbour]]\naddress = \"{server}\"\nmac = \"02:00:00:00:02:0b\"\ninterface = \"lan\"\n"
    );
    args.config = folder.write("six.toml", config);
    assert_eq!(run(&args).unwrap().frames_out, 3);
    let by_mark = r#""service":"FWM 9 IPv6","server":"[2001:db8:1::b]:0""#;
    assert_eq!(
        folder.verdicts(),
        [
            format!(r#"{{"frame":1,"verdict":"forward","reason":"forwarded.nat",{by_mark},"out":[1]}}"#),
            format!(r#"{{"frame":2,"verdict":"forward","reason":"forwarded.reply",{by_mark},"out":[2]}}"#),
            r#"{"frame":3,"verdict":"drop","reason":"no-route","service":null,"server":null,"out":[3]}"#
                .to_owned(),
        ]
    );
    let mut expected = tcp6(to_lan, (client, 4001), (server, 443), SYN);
    expected[..12].copy_from_slice(&[2, 0, 0, 0, 2, 11, 2, 0, 0, 0, 2, 1]);
    expected[21] = 63;
    assert_eq!(frames(&folder.file("out"))[0].bytes, expected);
}

#[test]
fn sessions_end_between_frames() {
    let folder = Folder::new("time");
    let reply = || from_server(4001, SYN_ACK);
    // SYN_RECV lasts a minute: after that the server's answer belongs to nothing and is routed as it is.
    folder.capture(
        PCAPNG,
        &["wan", "lan"],
        &[(0, 0, from_client(4001, SYN)), (30, 1, reply()), (500, 1, reply())],
    );
    run(&folder.args()).unwrap();
    let verdicts = folder.verdicts();
    assert!(verdicts[1].contains("forwarded.reply"), "{}", verdicts[1]);
    assert!(verdicts[2].contains("forwarded.route"), "{}", verdicts[2]);
}

#[test]
fn notes_tell_what_may_surprise() {
    let folder = Folder::new("notes");
    let mut frame = from_client(4001, SYN);
    folder.capture(MICROSECONDS, &[], &[(9, 0, frame.clone()), (3, 0, frame.clone())]);
    // Cut the last frame short, as a capture with a small snap length does.
    let mut bytes = fs::read(folder.file("in")).unwrap();
    let header = bytes.len() - frame.len() - 16;
    bytes[header + 8..header + 12].copy_from_slice(&20u32.to_le_bytes());
    bytes.truncate(header + 16 + 20);
    frame.truncate(20);
    folder.write("in", bytes);
    let mut args = folder.args();
    args.ipvsadm = Some(folder.write("setup", "@7 -C\n"));
    let notes = run(&args).unwrap().notes;
    assert_eq!(notes[0], "frame 2 was cut by the capture: 20 of 54 bytes");
    assert_eq!(notes[1], "frame 2 is older than the one before; it is taken at that one's time");
    assert!(notes[2].ends_with("setup:1: never applied: the capture ends before frame 7"), "{}", notes[2]);
    assert_eq!(frames(&folder.file("in"))[1].bytes, frame);
}

/// What `run` says about these arguments.
fn refusal(args: &Args) -> String {
    run(args).expect_err("accepted").to_string()
}

#[test]
fn bad_captures_are_refused_with_their_place() {
    let folder = Folder::new("bad-captures");
    let args = folder.args();
    assert!(matches!(run(&args), Err(Error::Capture(CaptureError::Io { .. }))));

    folder.write("in", "hello");
    assert!(refusal(&args).ends_with("in: not a capture: it begins like neither pcap nor pcapng"));
    folder.write("in", "");
    assert!(refusal(&args).ends_with("in: not a capture: it begins like neither pcap nor pcapng"));

    for format in [MICROSECONDS, PCAPNG] {
        folder.capture(format, &["wan"], &[(0, 0, from_client(1, SYN)), (0, 0, from_client(2, SYN))]);
        let whole = fs::read(folder.file("in")).unwrap();
        folder.write("in", &whole[..whole.len() - 5]);
        assert!(refusal(&args).ends_with("in: truncated: the file ends inside what comes after frame 1"));
        folder.write("in", &whole[..20]);
        assert!(
            refusal(&args).contains("in: truncated: the file ends inside what comes before the first frame")
        );
    }

    // Raw IP, link type 101: in the pcap header, in the pcapng interface.
    folder.capture(MICROSECONDS, &[], &[]);
    let mut raw = fs::read(folder.file("in")).unwrap();
    raw[20] = 101;
    folder.write("in", raw);
    assert!(
        refusal(&args).contains("in: link type 101 (RAW); replay reads Ethernet frames"),
        "{}",
        refusal(&args)
    );
    folder.capture(PCAPNG, &["wan"], &[(0, 0, from_client(1, SYN))]);
    let mut raw = fs::read(folder.file("in")).unwrap();
    raw[28 + 8] = 101;
    folder.write("in", raw);
    assert!(refusal(&args).contains("link type 101"));

    folder.capture(PCAPNG, &["wan", "eth7"], &[(0, 0, from_client(1, SYN)), (0, 1, from_client(1, SYN))]);
    assert!(
        refusal(&args).ends_with(
            "in: frame 2 was captured on `eth7`, which is no port of the configuration (known: wan, lan); \
             --port NAME says by which port such frames come in"
        ),
        "{}",
        refusal(&args)
    );
    assert_eq!(run(&Args { port: Some("wan".to_owned()), ..args.clone() }).unwrap().frames_in, 2);
}

#[test]
fn bad_arguments_are_refused() {
    let folder = Folder::new("bad-arguments");
    folder.capture(MICROSECONDS, &[], &[(0, 0, from_client(1, SYN))]);
    let args = folder.args();
    let input = fs::read(&args.input).unwrap();

    let port = Args { port: Some("dmz".to_owned()), ..args.clone() };
    assert_eq!(refusal(&port), "--port dmz: there is no such port; known: wan, lan");
    let overwrite = Args { output: args.input.clone(), ..args.clone() };
    assert!(refusal(&overwrite).contains("cannot be written at the same time"));
    let overwrite = Args { verdicts: Some(args.input.clone()), ..args.clone() };
    assert!(refusal(&overwrite).contains("cannot be written at the same time"));
    let link = args.input.with_extension("link");
    fs::hard_link(&args.input, &link).unwrap();
    let config = fs::read(&args.config).unwrap();
    for overwrite in [
        Args { output: link, ..args.clone() },
        Args { output: args.config.clone(), ..args.clone() },
        Args { verdicts: Some(args.output.clone()), ..args.clone() },
    ] {
        assert!(refusal(&overwrite).contains("cannot be written at the same time"), "{overwrite:?}");
    }
    assert_eq!(fs::read(&args.input).unwrap(), input);
    assert_eq!(fs::read(&args.config).unwrap(), config);

    for (text, complaint) in [
        ("-A -t 10.0.0.100:80\n", ":1: "),
        ("\n# x\n-a -t 10.0.0.100:80\n", ":3: You need to supply the 'real-server' option"),
        ("@0 -C\n", ":1: `@0` is no frame number"),
        ("@x -C\n", ":1: `@x` is no frame number"),
        ("sysctl -w net.ipv4.vs.cleverness=1\n", ":1: there is no setting `cleverness`"),
        ("sysctl -w net.ipv4.vs.sloppy_tcp=yes\n", ":1: sloppy_tcp of yes is out of range"),
        ("sysctl -a\n", ":1: sysctl takes one setting"),
        ("ip6tables -t mangle -A PREROUTING -j MARK --set-mark ten\n", ":1: "),
        ("iptables -t nat -A PREROUTING -j MASQUERADE\n", ":1: this marks nothing"),
    ] {
        let args = Args { ipvsadm: Some(folder.write("setup", text)), ..args.clone() };
        let place = format!("{}{complaint}", folder.file("setup").display());
        assert!(refusal(&args).starts_with(&place), "{text:?}: {}", refusal(&args));
    }
    let missing = Args { ipvsadm: Some(folder.file("nowhere")), ..args.clone() };
    assert!(refusal(&missing).contains("nowhere"));

    folder.write("fulcrum.toml", "[[port]]\nname = \"wan\"\ndevice = 7\n");
    assert!(refusal(&args).contains("fulcrum.toml:3: "), "{}", refusal(&args));
    folder.write("fulcrum.toml", "");
    assert!(refusal(&args).contains("there is no [[port]]"));
}

#[test]
fn damaged_captures_are_read_or_refused() {
    let folder = Folder::new("damaged");
    let mut dice = 1u64;
    let mut roll = |sides: usize| {
        dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (dice >> 33) as usize % sides
    };
    for format in [MICROSECONDS, PCAPNG, Format::PcapNg { big_endian: true }] {
        folder.capture(format, &["wan", "lan"], &[(0, 0, from_client(1, SYN)), (1, 0, from_client(2, SYN))]);
        let whole = fs::read(folder.file("in")).unwrap();
        for _ in 0..100 {
            let mut bytes = whole.clone();
            for _ in 0..=roll(3) {
                let at = roll(bytes.len());
                bytes[at] = [0, 1, 4, 0x7f, 0xff, roll(256) as u8][roll(6)];
            }
            if roll(4) == 0 {
                bytes.truncate(roll(bytes.len()));
            }
            let damaged = folder.write("damaged", bytes);
            let Ok(mut reader) = Reader::open(&damaged) else { continue };
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }
}
