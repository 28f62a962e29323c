//! Captured frames as pcapng: an interface a port, every frame with its direction, drops with their reason.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use fulcrum_api::dataplane::captured_frame::Direction;
use fulcrum_api::dataplane::{CapturePort, CapturedFrame};
use fulcrum_director::Reason;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};

/// epb_flags, bits 0 and 1: the direction.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;
/// Readers want all interfaces to have the same.
const ALL: u32 = 262_144;

/// A capture that is being written.
pub(super) struct Pcapng<W: Write> {
    writer: PcapNgWriter<W>,
    ports: usize,
}

impl<W: Write> Pcapng<W> {
    /// Begins with an interface for every port.
    pub(super) fn begin(writer: W, ports: &[CapturePort], snap_length: u16) -> io::Result<Pcapng<W>> {
        let program = format!("fulcrum {}", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::Little,
            options: vec![SectionHeaderOption::UserApplication(Cow::Owned(program))],
            ..SectionHeaderBlock::default()
        };
        let mut writer = PcapNgWriter::with_section_header(writer, section).map_err(io_error)?;
        for port in ports {
            let options = vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(port.name.clone())),
                InterfaceDescriptionOption::IfDescription(Cow::Owned(port.device.clone())),
                InterfaceDescriptionOption::IfTsResol(9),
            ];
            let snaplen = if snap_length == 0 { ALL } else { snap_length.into() };
            let block = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen, options };
            writer.write_pcapng_block(block).map_err(io_error)?;
        }
        Ok(Pcapng { writer, ports: ports.len() })
    }

    /// Adds a frame.
    pub(super) fn add(&mut self, frame: &CapturedFrame) -> io::Result<()> {
        if frame.port as usize >= self.ports {
            return Err(io::Error::other(format!(
                "a frame of port number {}, of {}",
                frame.port, self.ports
            )));
        }
        let flags = match frame.direction() {
            Direction::Incoming => INBOUND,
            Direction::Outgoing => OUTBOUND,
        };
        let mut options = vec![EnhancedPacketOption::Flags(flags)];
        if !frame.drop.is_empty() {
            options.push(EnhancedPacketOption::Comment(Cow::Owned(comment(&frame.drop))));
        }
        let block = EnhancedPacketBlock {
            interface_id: frame.port,
            // Written as nanoseconds, which is what the interface's if_tsresol says.
            timestamp: Duration::from_nanos(frame.time_ns),
            original_len: frame.length,
            data: Cow::Borrowed(&frame.data),
            options,
        };
        self.writer.write_pcapng_block(block).map(drop).map_err(io_error)
    }

    /// Passes on what is written.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.get_mut().flush()
    }
}

/// What is said beside a frame that was dropped.
fn comment(reason: &str) -> String {
    match Reason::ALL.iter().find(|known| known.name() == reason) {
        Some(known) => format!("dropped: {reason}: {}", known.meaning()),
        None => format!("dropped: {reason}"),
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use fulcrum_replay::capture::Reader;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let port = |name: &str| CapturePort { name: name.into(), device: "veth0".into() };
        let frame = |port, direction: Direction, drop: &str| CapturedFrame {
            time_ns: 1_700_000_000_123_456_789,
            port,
            direction: direction.into(),
            data: vec![7; 61],
            length: 1500,
            drop: drop.into(),
            worker: 0,
        };
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut pcapng = Pcapng::begin(&mut file, &[port("wan"), port("lan")], 0).unwrap();
        pcapng.add(&frame(0, Direction::Incoming, "")).unwrap();
        pcapng.add(&frame(1, Direction::Incoming, "no-route")).unwrap();
        assert!(pcapng.add(&frame(2, Direction::Outgoing, "")).is_err());
        pcapng.flush().unwrap();
        let mut reader = Reader::open(file.path()).unwrap();
        let first = reader.next_frame().unwrap().unwrap();
        assert_eq!((first.time, first.interface.as_deref()), (1_700_000_000_123_456_789, Some("wan")));
        assert_eq!((first.bytes.len(), first.original_length), (61, 1500));
        assert_eq!(reader.next_frame().unwrap().unwrap().interface.as_deref(), Some("lan"));
        assert!(reader.next_frame().unwrap().is_none());
        let bytes = std::fs::read(file.path()).unwrap();
        let says = b"dropped: no-route: No route.";
        assert!(bytes.windows(says.len()).any(|window| window == says));
    }
}
