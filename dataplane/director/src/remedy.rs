//! What to do about drops: for every reason, how much it matters and what would be right.
//!
//! One list for everybody who shows drops to a person, and a reason that is not in it does not compile.

use crate::reason::Reason;

/// How much a drop matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Concern {
    /// What every network has: broadcasts, scans, strays.
    Noise,
    /// A few are nothing, many are worth a look.
    Watch,
    /// Traffic that should have gone through is lost.
    Act,
}

/// What to do about a reason for drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// How much it matters.
    pub concern: Concern,
    /// What would be right.
    pub advice: &'static str,
}

impl Reason {
    /// What to do about it.
    pub const fn remedy(self) -> Remedy {
        use Concern::{Act, Noise, Watch};
        use Reason as R;
        let (concern, advice) = match self {
            R::Truncated => {
                (Watch, "Look for a broken cable, port or sender: `fulcrum capture --drop truncated`.")
            }
            R::UnknownVlan => {
                (Watch, "Add an [[interface]] with this vlan, or take the VLAN off the switch's port.")
            }
            R::UnknownEthertype => (Noise, "Nothing: LLDP, spanning tree and the like."),
            R::OtherStation => (
                Watch,
                "The switch floods, or somebody has an old MAC address of ours: look at its ARP entry.",
            ),
            R::L2Multicast => (Noise, "Nothing: broadcasts and multicasts of the link."),
            R::BadIpHeader => (Watch, "Look who sends them: `fulcrum capture --drop bad-ip-header`."),
            R::BadIpChecksum => (
                Watch,
                "Look for broken memory or a device on the way; on veth and TAP switch tx offload off at the peer.",
            ),
            R::BadIpOptions => (Watch, "Look who sends them: `fulcrum capture --drop bad-ip-options`."),
            R::SourceRoute => (Noise, "Nothing: source routes are refused on purpose."),
            R::MartianSource => (
                Watch,
                "Somebody uses one of our addresses or none: find it by `fulcrum capture --drop martian-source`. A DR server that sends to clients through the director does so with the VIP: give it another way out.",
            ),
            R::VipReleased => (
                Watch,
                "Just after a change of masters nothing: routers and clients learn where the VIP is. Else look which director has it, by `fulcrum vip list` on both, and who still sends here.",
            ),
            R::MartianDestination => (Noise, "Nothing: broadcasts and addresses that are nobody's."),
            R::BadTransportHeader => {
                (Watch, "Look who sends them: `fulcrum capture --drop bad-transport-header`.")
            }
            R::BadIcmpChecksum => (Watch, "Look who sends them: `fulcrum capture --drop bad-icmp-checksum`."),
            R::BadTransportChecksum => (
                Watch,
                "On veth and TAP switch tx offload off at the peer; else look for a device on the way that breaks packets.",
            ),
            R::Fragment => {
                (Watch, "No service takes these in pieces; lower the sender's MTU when they should arrive.")
            }
            R::BadFragment | R::TinyFragment | R::OverlappingFragment => (
                Watch,
                "An attack or a broken sender: look who sends them with `fulcrum capture --drop any`.",
            ),
            R::DuplicateFragment => (Noise, "Nothing: the network delivered one twice."),
            R::FragmentLimit => (
                Act,
                "Too many datagrams in pieces: raise the MTU on the way or lower the sender's, and look who sends them.",
            ),
            R::FragmentTimeout => (Watch, "A first fragment was lost: look for loss before the director."),
            R::SctpFragment => {
                (Act, "Lower the sender's path MTU, or use DR or TUN, where ports stay as they are.")
            }
            R::TtlExpired => (Watch, "A routing loop when there are many, traceroute when there are few."),
            R::TooBig => (
                Act,
                "Senders do not hear of the path's MTU: let ICMP fragmentation needed through, or set `mss` at the service or interface.",
            ),
            R::NoRoute => (
                Act,
                "Add a [[route]] to the destination: `fulcrum route add`, `fulcrum trace` says to which.",
            ),
            R::RouteUnreachable | R::RouteBlackhole => {
                (Watch, "A route says so on purpose: `fulcrum route list`.")
            }
            R::NotForwarding => (
                Watch,
                "Packets for others come here: correct their route, or set ip_forward when the director shall route. Answers of NAT servers that fit no session are among them: a session that has timed out, or a second way in.",
            ),
            R::NeighbourFailed => (
                Act,
                "The next hop does not answer ARP or neighbour solicitations: is it up, on this VLAN, with this address? `fulcrum neighbour list` names it.",
            ),
            R::NeighbourQueueFull => (
                Act,
                "Too much is sent to a next hop that has not answered yet: see `fulcrum neighbour list` for those that are incomplete.",
            ),
            R::NeighbourTableFull => (
                Act,
                "More stations on the links than the table holds: make the subnet smaller or put a router between.",
            ),
            R::NoService => (
                Watch,
                "Nobody offers this port: a scan, or a service that is missing; `fulcrum trace` names what comes near.",
            ),
            R::NoUdpService => (
                Watch,
                "Nobody offers this port: a scan, or a service that is missing; `fulcrum trace --protocol udp` names what comes near.",
            ),
            R::UnknownProtocol => (Noise, "Nothing, unless this protocol should be balanced: it cannot be."),
            R::NoSession => (
                Watch,
                "Clients go on with sessions that are over here: their time-out is too short (`fulcrum timeout list`), the director was restarted, or packets come to another director. `sloppy_tcp` lets them open sessions.",
            ),
            R::StrayReset => (Noise, "Nothing: late RSTs of sessions that are over."),
            R::NoServer => (
                Act,
                "No server may take connections: all have weight 0, are down or at their threshold; `fulcrum server list` says which.",
            ),
            R::ServerDeleted => (
                Watch,
                "Sessions of a server that was deleted: set `expire_nodest_conn` to have them go elsewhere, or drain servers first.",
            ),
            R::LocalServer => (
                Act,
                "A server is the director's host, which has not got the address: correct the server; for one with `forward = \"local\"`, give its interface an `exception` and put the VIP on lo.",
            ),
            R::IcmpUntranslatable
            | R::IcmpIgnored
            | R::IcmpNoSession
            | R::IcmpTtlExpired
            | R::IcmpBroadcast => (Noise, "Nothing: ICMP that says nothing about what goes on here."),
            R::NoCall => {
                (Watch, "SIP without a Call-ID: look who sends it, `fulcrum capture --drop no-call`.")
            }
            R::Defence => (
                Watch,
                "The setting drop_packet drops new connections on purpose: memory is short or a flood is under way.",
            ),
            R::SessionsFull => (
                Act,
                "Raise `sessions` in [dataplane], or shorten time-outs; a flood of SYNs shows as SYN_RECV in `fulcrum session list`.",
            ),
            R::NoLocalAddress => (
                Act,
                "Give the service a local pool with addresses of the servers' family: `local-pool`, or ipvsadm -P.",
            ),
            R::LocalPortsExhausted => (
                Act,
                "Add addresses to the local pool of the service, or of the rule that masquerades, or shorten time-outs.",
            ),
            R::SnatProtocol => (
                Watch,
                "Servers send what cannot be masqueraded, such as GRE or ESP: give it a rule before with `exempt = true`, or have them not send it.",
            ),
            R::LocalNoSession => (
                Watch,
                "Servers answer sessions that are over here: their time-out is longer than the director's, or a second director has the same local addresses.",
            ),
            R::BadArp => (Watch, "Look who sends it: `fulcrum capture --drop bad-arp`."),
            R::ArpNotOurs | R::ArpIgnored | R::NdNotOurs | R::NdIgnored => {
                (Noise, "Nothing: neighbours talk to one another.")
            }
            R::ArpConflict => (
                Act,
                "Another station claims one of our addresses; `fulcrum capture --drop arp-conflict` shows its MAC address. A DR server needs arp_ignore=1 and arp_announce=2.",
            ),
            R::NdConflict => (
                Act,
                "Another station claims one of our addresses; `fulcrum capture --drop nd-conflict` shows its MAC address. A DR server must hold the VIP on lo.",
            ),
            R::BadNd => (Watch, "Look who sends it: `fulcrum capture --drop bad-nd`."),
            R::NoBuffer => (
                Act,
                "Frames do not come back in time: a port that does not send, or too little memory for its queues.",
            ),
            R::NoHeadroom => (
                Act,
                "An outer header finds no room, which is a defect: please report it with `fulcrum status --json`.",
            ),
            R::HandoffFull => (
                Act,
                "A worker is overloaded: `fulcrum worker list` shows which; more workers, or a port that spreads by RSS.",
            ),
            R::HandoffLoop => (
                Watch,
                "A few while a configuration changes are right; more are a defect: please report them.",
            ),
            R::ExceptionPolicedRouting | R::ExceptionPolicedManagement => (
                Act,
                "More for the host's routing daemons or its management than it takes: find the sender by `fulcrum capture`, or raise the rate in [exception].",
            ),
            R::ExceptionPolicedLink | R::ExceptionPolicedAnswers => (
                Watch,
                "More for the host than it takes; find the sender by `fulcrum capture`, or raise the rate in [exception].",
            ),
            R::ExceptionPolicedRest => {
                (Watch, "A scan or a flood at the host; if it is neither, raise `rest` in [exception].")
            }
            R::ExceptionFull => (
                Watch,
                "The host takes frames slower than they come: give it a processor, or lower the rates in [exception].",
            ),
            R::ExceptionDown => (Act, "Bring the exception interface up: `ip link set NAME up`."),
            R::TxFull => (
                Act,
                "The port sends less than it is given: link speed, pause frames, or too few queues; see `fulcrum port show`.",
            ),
            R::MultiSegment => {
                (Act, "Frames are larger than any interface's MTU: raise it, or switch LRO and GRO off.")
            }
            R::NotProgrammed => (Watch, "Start fulcrum-control, which programs the data plane."),
            R::StrayServerPacket => {
                (Watch, "A NAT server sends outside of sessions, and nat_icmp_send refuses that on purpose.")
            }
        };
        Remedy { concern, advice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_advice() {
        for reason in Reason::ALL {
            let Remedy { concern, advice } = reason.remedy();
            assert!(advice.ends_with('.') && advice.len() > 20, "{reason}: {advice}");
            assert_eq!(concern == Concern::Noise, advice.starts_with("Nothing"), "{reason}: {advice}");
            for word in advice.split('`').skip(1).step_by(2).filter(|word| word.contains("--drop ")) {
                let (_, name) = word.split_once("--drop ").unwrap();
                let known = |known: &&Reason| known.name() == name;
                assert!(name == "any" || Reason::ALL.iter().any(|reason| known(&reason)), "{word}");
            }
        }
    }
}
