//! The way of clients: through the data plane, to the VIP, from a source port by which it knows whom the probe is for.
//!
//! Lives here: which target has which port, and sockets bound to them. That the data plane knows the ports is the
//! caller's affair ([`Through::assign`], [`Through::confirm`]).

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fulcrum_model::Via;

use super::{Direct, Flavour, NoWay, Path, Way, socket, words};
use crate::target::Target;

/// Source ports of probes: below those that Linux gives out by itself.
const PORTS: RangeInclusive<u16> = 20480..=32767;

/// The host's own way for checks that want it, and through the data plane for the others.
#[derive(Debug, Default)]
pub struct Through(Mutex<Ports>);

#[derive(Debug, Default)]
struct Ports {
    /// Port of each target, and whether the data plane knows it.
    known: HashMap<Target, (u16, bool)>,
    used: BTreeSet<u16>,
    /// Where the search for a free one goes on: one that was given up rests for as long as possible.
    next: u16,
}

impl Through {
    /// Gives each of these targets that goes through the data plane a port, the same as before if it had one; those of others
    /// are free again. Gives all of them, for the data plane. A target for which no port is left gets none.
    pub fn assign<'a>(&self, targets: impl IntoIterator<Item = &'a Target>) -> Vec<(Target, u16)> {
        let mut ports = self.ports();
        let through = |target: &&Target| target.check.via != Via::Direct && target.vip.is_some();
        let mut before = std::mem::take(&mut ports.known);
        let mut new = Vec::new();
        for target in targets.into_iter().filter(through) {
            match before.remove(target) {
                Some(port) => _ = ports.known.insert(target.clone(), port),
                None if ports.known.contains_key(target) => {}
                None => new.push(target),
            }
        }
        for (port, _) in before.into_values() {
            ports.used.remove(&port);
        }
        for target in new {
            if let Some(port) = ports.take() {
                ports.known.entry(target.clone()).or_insert((port, false));
            }
        }
        ports.known.iter().map(|(target, (port, _))| (target.clone(), *port)).collect()
    }

    /// Says that the data plane knows these.
    pub fn confirm(&self, known: &[(Target, u16)]) {
        let mut ports = self.ports();
        for (target, port) in known {
            if let Some(assigned) = ports.known.get_mut(target).filter(|(assigned, _)| assigned == port) {
                assigned.1 = true;
            }
        }
    }

    /// Says that the data plane knows none any more: it was started anew, or is not there.
    pub fn forget(&self) {
        self.ports().known.values_mut().for_each(|(_, known)| *known = false);
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ports {
    fn take(&mut self) -> Option<u16> {
        let (first, last) = (*PORTS.start(), *PORTS.end());
        let next = self.next.clamp(first, last);
        let port = (next..=last).chain(first..next).find(|port| !self.used.contains(port))?;
        self.next = if port == last { first } else { port + 1 };
        self.used.insert(port);
        Some(port)
    }
}

impl Path for Through {
    fn open(&self, target: &Target, flavour: Flavour) -> Result<Way, NoWay> {
        if target.check.via == Via::Direct {
            return Direct.open(target, flavour);
        }
        let no_way = |why: &str| Err(NoWay(why.to_owned()));
        let Some(to) = target.vip else {
            return no_way("a service without an address has no way through the data plane");
        };
        if flavour == Flavour::Echo {
            return no_way("a ping does not go through the data plane");
        }
        let port = match self.ports().known.get(target) {
            Some((port, true)) => *port,
            Some(_) => return no_way("the data plane does not know of the probe yet"),
            None => return no_way("no source port is left for probes through the data plane"),
        };
        let socket = socket(flavour, to.ip())?;
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let source = target.check.source.unwrap_or(any);
        if source.is_ipv4() != to.is_ipv4() {
            return Err(NoWay(format!("source address {source} and VIP {to} are of two families")));
        }
        // The port is used for the next probe too: a connection must not rest on it.
        let ready = socket
            .set_reuse_address(true)
            .and_then(|()| match flavour {
                Flavour::Stream => socket.set_linger(Some(Duration::ZERO)),
                Flavour::Datagram | Flavour::Echo => Ok(()),
            })
            .and_then(|()| socket.bind(&SocketAddr::new(source, port).into()));
        match ready {
            Ok(()) => Ok(Way { socket, to }),
            Err(error) => Err(NoWay(format!("source port {port} of the probe: {}", words(&error)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use fulcrum_model::{Check, CheckKind};

    use super::*;

    fn targets(count: u16) -> Vec<Target> {
        (0..count).map(|n| target(n, Via::Vip)).collect()
    }

    fn target(n: u16, via: Via) -> Target {
        let check = Check { via, ..Check::new("any", CheckKind::Tcp) };
        Target::new(&check, IpAddr::from([10, 0, (n >> 8) as u8, n as u8]), 80, "127.0.0.1:80".parse().ok())
    }

    #[test]
    fn a_target_keeps_its_port_and_others_get_another() {
        let through = Through::default();
        let of = |list: &[(Target, u16)], n| list.iter().find(|(t, _)| *t == target(n, Via::Vip)).unwrap().1;
        let first = through.assign(&targets(3));
        assert_eq!(first.len(), 3);
        let later = through.assign(&targets(5)[1..]);
        assert_eq!((of(&later, 1), of(&later, 2)), (of(&first, 1), of(&first, 2)));
        let ports: BTreeSet<u16> = later.iter().map(|(_, port)| *port).collect();
        assert_eq!(ports.len(), 4);
        assert!(!ports.contains(&of(&first, 0)), "one that was just given up rests");
        assert_eq!(through.assign(&[target(0, Via::Direct)]), []);
    }

    #[test]
    fn ports_end() {
        let through = Through::default();
        assert_eq!(through.assign(&targets(13000)).len(), PORTS.len());
        assert_eq!(through.assign(&targets(1)).len(), 1);
    }

    #[test]
    fn there_is_a_way_when_the_data_plane_knows_it() {
        let (through, target) = (Through::default(), target(7, Via::Vip));
        let open = |flavour| through.open(&target, flavour);
        assert!(open(Flavour::Stream).unwrap_err().0.contains("no source port"));
        let list = through.assign([&target]);
        assert!(open(Flavour::Stream).unwrap_err().0.contains("does not know"));
        through.confirm(&list);
        for _ in 0..2 {
            let way = open(Flavour::Stream).unwrap();
            let own = way.socket.local_addr().unwrap().as_socket().unwrap();
            assert_eq!((own.port(), way.to), (list[0].1, "127.0.0.1:80".parse().unwrap()));
        }
        assert!(open(Flavour::Datagram).is_ok());
        assert!(open(Flavour::Echo).unwrap_err().0.contains("ping"));
        through.forget();
        assert!(open(Flavour::Stream).is_err());
    }
}
