//! Rules of a device that bring answers to local addresses of FULLNAT to their owners, where it does not do so by RSS.
//!
//! A worker's local ports are those of its own remainder, which are its lowest bits when the workers are two, four,
//! eight: a rule an address, protocol and worker. A rule that is missing costs a way to another worker.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use fulcrum_dpdk::{Flow, FlowRule, PortError};
use fulcrum_packet::ipv4::{TCP, UDP};

use crate::deal;

/// Rules that a device is asked for at most.
const LIMIT: usize = 4096;
/// An address to ask by whether a device takes such rules. // RFC 5737: for documentation
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A port as rules see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outlook {
    /// Its number.
    pub(crate) number: usize,
    /// Its receive queues.
    pub(crate) queues: usize,
    /// Workers there are.
    pub(crate) workers: usize,
}

/// The rules of a port.
#[derive(Debug)]
pub(crate) struct Rules {
    outlook: Outlook,
    kept: HashMap<IpAddr, Vec<Flow>>,
    /// Local addresses that there are.
    addresses: usize,
}

impl Rules {
    /// None as yet, if the device takes such, which only making them tells for some; why not otherwise.
    pub(crate) fn probe(port: &mut fulcrum_dpdk::Port, outlook: Outlook) -> Result<Rules, String> {
        if outlook.queues < 2 {
            return Err("the device has one receive queue".to_owned());
        }
        if !outlook.workers.is_power_of_two() {
            return Err("rules can tell 2, 4, 8 … workers' ports apart".to_owned());
        }
        let refusal = outlook.rules(NOBODY).iter().find_map(|rule| port.validate_flow(rule).err());
        if let Some(error) = refusal {
            return Err(error.to_string());
        }
        let mut rules = Rules { outlook, kept: HashMap::new(), addresses: 0 };
        let made = rules.follow(port, &HashSet::from([NOBODY]));
        rules.clear(port);
        rules.addresses = 0;
        made.map(|()| rules).map_err(|error| error.to_string())
    }

    /// Has the device keep rules for exactly these local addresses, as far as there is room.
    pub(crate) fn follow(
        &mut self,
        port: &mut fulcrum_dpdk::Port,
        addresses: &HashSet<IpAddr>,
    ) -> Result<(), PortError> {
        self.addresses = addresses.len();
        let gone = self.kept.extract_if(|address, _| !addresses.contains(address));
        gone.flat_map(|(_, flows)| flows).try_for_each(|flow| port.remove_flow(flow))?;
        for &address in addresses {
            if self.kept.contains_key(&address) {
                continue;
            }
            let rules = self.outlook.rules(address);
            if self.count() + rules.len() > LIMIT {
                break;
            }
            // Those made before one is refused are known, to be taken away.
            let kept = self.kept.entry(address).or_default();
            for rule in &rules {
                kept.push(port.add_flow(rule)?);
            }
        }
        Ok(())
    }

    /// Takes all rules away.
    pub(crate) fn clear(&mut self, port: &mut fulcrum_dpdk::Port) {
        for flow in self.kept.drain().flat_map(|(_, flows)| flows) {
            if let Err(error) = port.remove_flow(flow) {
                tracing::warn!("{error}");
            }
        }
    }

    /// Rules that the device keeps.
    pub(crate) fn count(&self) -> usize {
        self.kept.values().map(Vec::len).sum()
    }

    /// Local addresses that have rules, and all.
    pub(crate) fn addresses(&self) -> (usize, usize) {
        (self.kept.len(), self.addresses)
    }
}

impl Outlook {
    /// The rules of one local address.
    fn rules(self, address: IpAddr) -> Vec<FlowRule> {
        let Outlook { number, queues, workers } = self;
        let queue_of =
            |worker| (0..queues).find(|&queue| deal::receiver(number, queue, queues, workers) == worker);
        let mask = u16::try_from(workers - 1).unwrap_or(u16::MAX);
        let shares = (0..workers)
            .filter_map(|worker| Some((u16::try_from(worker).ok()?, u16::try_from(queue_of(worker)?).ok()?)));
        let rules = shares.flat_map(|(worker, queue)| {
            [TCP, UDP].map(|protocol| FlowRule { address, protocol, port: worker, port_mask: mask, queue })
        });
        rules.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_local_port_goes_to_the_queue_of_the_worker_that_takes_it() {
        for (workers, queues) in [(2, 2), (4, 4), (8, 8), (8, 3), (4, 16)] {
            let outlook = Outlook { number: 1, queues, workers };
            let rules = outlook.rules(NOBODY);
            for port in [1024u16, 1025, 5003, 65_535] {
                let owner = usize::from(port) % workers;
                for protocol in [TCP, UDP] {
                    let fits = |rule: &&FlowRule| {
                        rule.protocol == protocol && port & rule.port_mask == rule.port & rule.port_mask
                    };
                    let fitting: Vec<_> = rules.iter().filter(fits).collect();
                    let receivers: Vec<_> = fitting
                        .iter()
                        .map(|rule| deal::receiver(1, rule.queue.into(), queues, workers))
                        .collect();
                    let polled = (0..queues).any(|queue| deal::receiver(1, queue, queues, workers) == owner);
                    assert_eq!(receivers, if polled { vec![owner] } else { vec![] }, "{workers} {queues}");
                }
            }
        }
    }
}
