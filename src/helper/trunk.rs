//! The other end of a trunk, for kernels without VLAN devices: raw tagged frames on one side, an untagged
//! device per VLAN on the other.

use std::thread;

use pcap::{Active, Capture, Direction};

/// Moves frames between a trunk and access devices `(vlan, device)` until it is ended.
pub(crate) fn run(trunk: &str, access: &[(u16, String)]) -> Result<(), Box<dyn std::error::Error>> {
    let mut threads = Vec::new();
    for (vlan, device) in access {
        let (vlan, mut from, mut to) = (*vlan, receiver(device)?, sender(trunk)?);
        threads.push(thread::spawn(move || pump(&mut from, |frame| to.sendpacket(tagged(frame, vlan)))));
    }
    let mut from = receiver(trunk)?;
    let mut out = Vec::new();
    for (vlan, device) in access {
        out.push((*vlan, sender(device)?));
    }
    println!("ready");
    pump(&mut from, |frame| {
        let Some((vlan, plain)) = untagged(frame) else { return Ok(()) };
        match out.iter_mut().find(|(id, _)| *id == vlan) {
            Some((_, to)) => to.sendpacket(plain),
            None => Ok(()),
        }
    });
    Err("the trunk's device is gone".into())
}

fn receiver(device: &str) -> Result<Capture<Active>, pcap::Error> {
    let capture =
        Capture::from_device(device)?.immediate_mode(true).promisc(true).buffer_size(16 << 20).open()?;
    capture.direction(Direction::In)?;
    Ok(capture)
}

fn sender(device: &str) -> Result<Capture<Active>, pcap::Error> {
    Capture::from_device(device)?.open()
}

fn pump(from: &mut Capture<Active>, mut give: impl FnMut(&[u8]) -> Result<(), pcap::Error>) {
    loop {
        match from.next_packet() {
            Ok(packet) => {
                if let Err(error) = give(packet.data) {
                    eprintln!("{} bytes not sent: {error}", packet.data.len());
                }
            }
            Err(pcap::Error::TimeoutExpired) => {}
            Err(error) => return eprintln!("{error}"),
        }
    }
}

/// The frame with an 802.1Q tag.
fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    [&frame[..12], &[0x81, 0x00, high, low], &frame[12..]].concat()
}

/// A tagged frame's VLAN, and the frame without its tag.
fn untagged(frame: &[u8]) -> Option<(u16, Vec<u8>)> {
    let tag = frame.get(12..16)?;
    (tag[..2] == [0x81, 0x00])
        .then(|| (u16::from_be_bytes([tag[2], tag[3]]) & 0xfff, [&frame[..12], &frame[16..]].concat()))
}

#[cfg(test)]
mod tests {
    use super::{tagged, untagged};

    #[test]
    fn a_tag_goes_on_and_off() {
        let frame: Vec<u8> = (0..60).collect();
        let with = tagged(&frame, 4094);
        assert_eq!(with.len(), 64);
        assert_eq!(untagged(&with), Some((4094, frame.clone())));
        assert_eq!(untagged(&frame), None);
    }
}
