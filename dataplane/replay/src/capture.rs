//! Capture files: pcap and pcapng in, the same kind out.
//!
//! Only what replay needs: frames with their time and the name of their interface. Pcapng blocks of other kinds
//! are skipped; several sections in one file are read one after the other.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, BufWriter, Chain, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapReader, PcapWriter, RawPcapPacket};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption as Option_,
};
use pcap_file::pcapng::{Block, PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

/// What is wrong with a capture.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Neither format's magic number.
    #[error("{}: not a capture: it begins like neither pcap nor pcapng", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file ends in the middle of something.
    #[error("{}: truncated: the file ends inside {}", path.display(), after(*frames))]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Whole frames before the end.
        frames: u64,
    },
    /// Something in the file contradicts its format.
    #[error("{}: damaged {}: {what}", path.display(), after(*frames))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Whole frames before the damage.
        frames: u64,
        /// What was found.
        what: String,
    },
    /// Frames that are not Ethernet.
    #[error("{}: link type {link} ({}); replay reads Ethernet frames (link type 1)", path.display(), link_name(*link))]
    LinkType {
        /// The file.
        path: PathBuf,
        /// The link type's number.
        link: u32,
    },
}

fn after(frames: u64) -> String {
    match frames {
        0 => "what comes before the first frame".to_owned(),
        n => format!("what comes after frame {n}"),
    }
}

fn link_name(link: u32) -> String {
    format!("{:?}", DataLink::from(link))
}

/// Which kind of capture, and what of its header an output file takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Classic pcap.
    Pcap {
        /// Whether times are in nanoseconds instead of microseconds.
        nanoseconds: bool,
        /// Whether numbers are big-endian.
        big_endian: bool,
    },
    /// Pcapng.
    PcapNg {
        /// Whether numbers of the first section are big-endian.
        big_endian: bool,
    },
}

/// One captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Nanoseconds since 1970.
    pub time: u64,
    /// Name of the interface it was captured on; plain pcap and nameless interfaces have none.
    pub interface: Option<String>,
    /// What was captured of it.
    pub bytes: Vec<u8>,
    /// Its length on the wire.
    pub original_length: u32,
}

type Source = Chain<Cursor<Vec<u8>>, BufReader<File>>;

/// Reads a capture frame by frame.
pub struct Reader {
    path: PathBuf,
    format: Format,
    inner: Inner,
    frames: u64,
}

enum Inner {
    Pcap(PcapReader<Source>),
    PcapNg(PcapNgReader<Source>),
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("path", &self.path)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Opens a capture and reads its header.
    pub fn open(path: &Path) -> Result<Reader, CaptureError> {
        let io = |source| CaptureError::Io { path: path.to_owned(), source };
        let mut file = BufReader::new(File::open(path).map_err(io)?);
        let mut magic = Vec::new();
        file.by_ref().take(4).read_to_end(&mut magic).map_err(io)?;
        let source = Cursor::new(magic.clone()).chain(file);
        let fault = |error| fault(path, 0, error);
        let (inner, format) = match magic[..] {
            [0x0a, 0x0d, 0x0d, 0x0a] => {
                let reader = PcapNgReader::new(source).map_err(fault)?;
                let big_endian = reader.section().endianness == Endianness::Big;
                (Inner::PcapNg(reader), Format::PcapNg { big_endian })
            }
            [0xa1, 0xb2, 0xc3, 0xd4]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0xd4, 0xc3, 0xb2, 0xa1]
            | [0x4d, 0x3c, 0xb2, 0xa1] => {
                let reader = PcapReader::new(source).map_err(fault)?;
                let header = reader.header();
                ethernet(path, header.datalink)?;
                let nanoseconds = header.ts_resolution == TsResolution::NanoSecond;
                let big_endian = header.endianness == Endianness::Big;
                (Inner::Pcap(reader), Format::Pcap { nanoseconds, big_endian })
            }
            _ => return Err(CaptureError::UnknownFormat { path: path.to_owned() }),
        };
        Ok(Reader { path: path.to_owned(), format, inner, frames: 0 })
    }

    /// The file's kind.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The next frame, `None` at the end of the file.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, CaptureError> {
        let frame = match &mut self.inner {
            Inner::Pcap(reader) => {
                let nanoseconds = matches!(self.format, Format::Pcap { nanoseconds: true, .. });
                match reader.next_raw_packet() {
                    None => None,
                    Some(Ok(packet)) => Some(Frame {
                        time: u64::from(packet.ts_sec) * 1_000_000_000
                            + u64::from(packet.ts_frac) * if nanoseconds { 1 } else { 1000 },
                        interface: None,
                        original_length: packet.orig_len,
                        bytes: packet.data.into_owned(),
                    }),
                    Some(Err(error)) => return Err(fault(&self.path, self.frames, error)),
                }
            }
            Inner::PcapNg(reader) => next_of_pcapng(reader, &self.path, self.frames)?,
        };
        self.frames += u64::from(frame.is_some());
        Ok(frame)
    }
}

/// The next packet block's frame.
fn next_of_pcapng(
    reader: &mut PcapNgReader<Source>,
    path: &Path,
    frames: u64,
) -> Result<Option<Frame>, CaptureError> {
    loop {
        let (id, ticks, bytes, original_length) = match reader.next_block() {
            None => return Ok(None),
            Some(Err(error)) => return Err(fault(path, frames, error)),
            // The crate hands the raw ticks over as if they were nanoseconds.
            Some(Ok(Block::EnhancedPacket(EnhancedPacketBlock {
                interface_id,
                timestamp,
                original_len,
                data,
                ..
            }))) => (interface_id, Some(timestamp.as_nanos()), data.into_owned(), original_len),
            Some(Ok(Block::Packet(packet))) => (
                u32::from(packet.interface_id),
                Some(u128::from(packet.timestamp)),
                packet.data.into_owned(),
                packet.original_len,
            ),
            Some(Ok(Block::SimplePacket(packet))) => {
                // Its data are padded to four bytes.
                let mut bytes = packet.data.into_owned();
                bytes.truncate(packet.original_len as usize);
                (0, None, bytes, packet.original_len)
            }
            Some(Ok(_)) => continue,
        };
        let Some(interface) = reader.interfaces().get(id as usize) else {
            let what = format!("a packet of interface {id}, which the file does not describe");
            return Err(CaptureError::Damaged { path: path.to_owned(), frames, what });
        };
        ethernet(path, interface.linktype)?;
        let time = ticks.map_or(0, |ticks| nanoseconds(ticks, interface));
        return Ok(Some(Frame { time, interface: name(interface), bytes, original_length }));
    }
}

fn ethernet(path: &Path, link: DataLink) -> Result<(), CaptureError> {
    match link {
        DataLink::ETHERNET => Ok(()),
        other => Err(CaptureError::LinkType { path: path.to_owned(), link: other.into() }),
    }
}

fn name(interface: &InterfaceDescriptionBlock) -> Option<String> {
    interface.options.iter().find_map(|option| match option {
        Option_::IfName(name) => Some(name.clone().into_owned()),
        _ => None,
    })
}

/// A pcapng time in nanoseconds: if_tsresol says how long a tick is (10⁻⁶ s by default), if_tsoffset adds seconds.
fn nanoseconds(ticks: u128, interface: &InterfaceDescriptionBlock) -> u64 {
    let (mut resolution, mut offset) = (6u8, 0u64);
    for option in &interface.options {
        match option {
            Option_::IfTsResol(value) => resolution = *value,
            Option_::IfTsOffset(seconds) => offset = *seconds,
            _ => {}
        }
    }
    let exponent = u32::from(resolution & 0x7f);
    let per_second =
        if resolution & 0x80 == 0 { 10u128.checked_pow(exponent) } else { 2u128.checked_pow(exponent) };
    let nanoseconds = match per_second {
        Some(per_second) => ticks.saturating_mul(1_000_000_000) / per_second,
        None => 0,
    };
    u64::try_from(nanoseconds).unwrap_or(u64::MAX).saturating_add(offset.saturating_mul(1_000_000_000))
}

fn fault(path: &Path, frames: u64, error: PcapError) -> CaptureError {
    let path = path.to_owned();
    match error {
        PcapError::IncompleteBuffer => CaptureError::Truncated { path, frames },
        PcapError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            CaptureError::Truncated { path, frames }
        }
        PcapError::IoError(source) => CaptureError::Io { path, source },
        other => CaptureError::Damaged { path, frames, what: other.to_string() },
    }
}

/// Writes a capture.
pub struct Writer {
    path: PathBuf,
    format: Format,
    inner: Sink,
    frames: u64,
}

enum Sink {
    Pcap(PcapWriter<BufWriter<File>>),
    PcapNg(PcapNgWriter<BufWriter<File>>),
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("path", &self.path)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// The largest frame that pcap files here say they hold.
const SNAPLEN: u32 = 262_144;

impl Writer {
    /// Makes a capture of `format`; in pcapng every one of `ports` is an interface.
    pub fn create<'a>(
        path: &Path,
        format: Format,
        ports: impl Iterator<Item = &'a str>,
    ) -> Result<Writer, CaptureError> {
        let io = |source| CaptureError::Io { path: path.to_owned(), source };
        let fault = |error| fault(path, 0, error);
        let file = BufWriter::new(File::create(path).map_err(io)?);
        let order = |big_endian| if big_endian { Endianness::Big } else { Endianness::Little };
        let inner = match format {
            Format::Pcap { nanoseconds, big_endian } => {
                let header = PcapHeader {
                    snaplen: SNAPLEN,
                    datalink: DataLink::ETHERNET,
                    ts_resolution: if nanoseconds {
                        TsResolution::NanoSecond
                    } else {
                        TsResolution::MicroSecond
                    },
                    endianness: order(big_endian),
                    ..PcapHeader::default()
                };
                Sink::Pcap(PcapWriter::with_header(file, header).map_err(fault)?)
            }
            Format::PcapNg { big_endian } => {
                let mut writer = PcapNgWriter::with_endianness(file, order(big_endian)).map_err(fault)?;
                for port in ports {
                    let options = vec![Option_::IfName(Cow::Owned(port.to_owned())), Option_::IfTsResol(9)];
                    let block =
                        InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: SNAPLEN, options };
                    writer.write_pcapng_block(block).map_err(fault)?;
                }
                Sink::PcapNg(writer)
            }
        };
        Ok(Writer { path: path.to_owned(), format, inner, frames: 0 })
    }

    /// Adds a frame that left by port number `port`; its 1-based number in the file.
    pub fn write(&mut self, time: u64, port: u16, bytes: &[u8]) -> Result<u64, CaptureError> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let done = match &mut self.inner {
            Sink::Pcap(writer) => {
                let unit =
                    if matches!(self.format, Format::Pcap { nanoseconds: true, .. }) { 1 } else { 1000 };
                let packet = RawPcapPacket {
                    ts_sec: u32::try_from(time / 1_000_000_000).unwrap_or(u32::MAX),
                    ts_frac: u32::try_from(time % 1_000_000_000 / unit).unwrap_or(0),
                    incl_len: length,
                    orig_len: length,
                    data: Cow::Borrowed(bytes),
                };
                writer.write_raw_packet(&packet)
            }
            Sink::PcapNg(writer) => writer.write_pcapng_block(EnhancedPacketBlock {
                interface_id: u32::from(port),
                // Written as nanoseconds, which is what the interface's if_tsresol says.
                timestamp: Duration::from_nanos(time),
                original_len: length,
                data: Cow::Borrowed(bytes),
                options: Vec::new(),
            }),
        };
        done.map_err(|error| fault(&self.path, self.frames, error))?;
        self.frames += 1;
        Ok(self.frames)
    }

    /// Completes the file.
    pub fn finish(self) -> Result<(), CaptureError> {
        let mut file = match self.inner {
            Sink::Pcap(writer) => writer.into_writer(),
            Sink::PcapNg(writer) => writer.into_inner(),
        };
        file.flush().map_err(|source| CaptureError::Io { path: self.path, source })
    }
}
