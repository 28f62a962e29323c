//! Names: why a packet was dropped, what else happened, and the verdict on one input frame.

use crate::snapshot::{DestinationId, ServiceId};

macro_rules! names {
    ($(#[$meta:meta])* $enum:ident { $(#[doc = $doc:literal] $variant:ident = $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $enum { $(#[doc = $doc] $variant,)* }

        impl $enum {
            /// All of them, in order.
            pub const ALL: &[$enum] = &[$($enum::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = $enum::ALL.len();

            /// The name that operators see.
            pub const fn name(self) -> &'static str {
                match self { $($enum::$variant => $name,)* }
            }

            /// What it means, in a sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $($enum::$variant => $doc.trim_ascii(),)* }
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

names! {
    /// Why a packet was not forwarded. Every packet that is dropped counts exactly one of these.
    Reason {
        /// Shorter than its headers say, or than any frame.
        Truncated = "truncated",
        /// A VLAN that no interface of the port has, or an untagged frame where only VLANs are.
        UnknownVlan = "unknown-vlan",
        /// An Ethernet type that is neither IP nor ARP.
        UnknownEthertype = "unknown-ethertype",
        /// Sent to another station's MAC address.
        OtherStation = "other-station",
        /// IP in an Ethernet broadcast or multicast that is not for us.
        L2Multicast = "l2-multicast",
        /// IP version, header length, total length or extension headers do not fit.
        BadIpHeader = "bad-ip-header",
        /// Wrong IPv4 header checksum.
        BadIpChecksum = "bad-ip-checksum",
        /// Malformed IPv4 options.
        BadIpOptions = "bad-ip-options",
        /// Source-routed.
        SourceRoute = "source-route",
        /// A source address no packet may have here.
        MartianSource = "martian-source",
        /// To a VIP that this director does not have now (`fulcrum vip release`).
        VipReleased = "vip-released",
        /// A destination address that is not forwarded: multicast, broadcast, loopback, 0/8, 240/4.
        MartianDestination = "martian-destination",
        /// TCP, UDP or ICMP header cut short.
        BadTransportHeader = "bad-transport-header",
        /// Wrong ICMP checksum.
        BadIcmpChecksum = "bad-icmp-checksum",
        /// Wrong TCP or UDP checksum, in a packet that we would have had to answer ourselves.
        BadTransportChecksum = "bad-transport-checksum",
        /// A fragment of what no service takes in pieces, such as ICMP to us, or of no session.
        Fragment = "fragment",
        /// A fragment with nothing in it, cut at no multiple of eight, or beyond the largest datagram.
        BadFragment = "bad-fragment",
        /// A first fragment too short for its transport header.
        TinyFragment = "tiny-fragment",
        /// A fragment that was there before.
        DuplicateFragment = "duplicate-fragment",
        /// A fragment with bytes that another one had, and whatever else comes of its datagram.
        OverlappingFragment = "overlapping-fragment",
        /// Too many fragments: of a datagram, of a source, or waiting.
        FragmentLimit = "fragment-limit",
        /// A fragment whose first one did not come.
        FragmentTimeout = "fragment-timeout",
        /// A fragment of SCTP in a session that changes ports: its checksum covers the whole.
        SctpFragment = "sctp-fragment",
        /// TTL ran out (time exceeded was sent, if it may be).
        TtlExpired = "ttl-expired",
        /// Too large for the way out and not to be fragmented (fragmentation needed was sent, if it may be).
        TooBig = "too-big",
        /// No route.
        NoRoute = "no-route",
        /// An unreachable route.
        RouteUnreachable = "route-unreachable",
        /// A blackhole route.
        RouteBlackhole = "route-blackhole",
        /// Not for us, and routing is off.
        NotForwarding = "not-forwarding",
        /// The next hop did not answer ARP.
        NeighbourFailed = "neighbour-failed",
        /// Too many packets wait for the next hop already.
        NeighbourQueueFull = "neighbour-queue-full",
        /// The neighbour table is full of entries in use.
        NeighbourTableFull = "neighbour-table-full",
        /// TCP to an own address where nothing listens (answered with RST, if it may be).
        NoService = "no-service",
        /// UDP to an own address where nothing listens (answered with port unreachable).
        NoUdpService = "no-udp-service",
        /// A protocol that we do not speak, to an own address (answered with protocol unreachable).
        UnknownProtocol = "unknown-protocol",
        /// A segment of a service that fits no session and may not open one (answered with RST, if it may be).
        NoSession = "no-session",
        /// RST that fits no session.
        StrayReset = "stray-reset",
        /// No server of the service may take the connection (answered with port unreachable).
        NoServer = "no-server",
        /// The session's server was deleted.
        ServerDeleted = "server-deleted",
        /// The server's address is one of the director's own, where nobody listens (answered as a host does).
        LocalServer = "local-server",
        /// An ICMP error that says nothing in the address family of whom it is for.
        IcmpUntranslatable = "icmp-untranslatable",
        /// A client's ICMP message that the director has no use for.
        IcmpIgnored = "icmp-ignored",
        /// An ICMP error about a session that is not there.
        IcmpNoSession = "icmp-no-session",
        /// An ICMP error whose TTL ran out, of which no error may be sent.
        IcmpTtlExpired = "icmp-ttl-expired",
        /// A broadcast ping or the like.
        IcmpBroadcast = "icmp-broadcast",
        /// A packet of a service with the persistence engine `sip` without a Call-ID.
        NoCall = "no-call",
        /// One of the new connections that the setting drop_packet drops.
        Defence = "drop-packet",
        /// The session table is full.
        SessionsFull = "sessions-full",
        /// FULLNAT without a local address for this service.
        NoLocalAddress = "no-local-address",
        /// Every local address and port towards this server is in use.
        LocalPortsExhausted = "local-ports-exhausted",
        /// A packet that a rule is to masquerade, of a protocol that has neither ports nor an echo's identifier.
        SnatProtocol = "snat-protocol",
        /// A segment to a local address that fits no session (answered with RST, if it may be).
        LocalNoSession = "local-no-session",
        /// ARP that is malformed.
        BadArp = "bad-arp",
        /// ARP about an address that is not ours.
        ArpNotOurs = "arp-not-ours",
        /// ARP by somebody who claims one of our addresses.
        ArpConflict = "arp-conflict",
        /// ARP that told nothing: an unsolicited reply, a flip-flop, a full table.
        ArpIgnored = "arp-ignored",
        /// No buffer for a frame.
        NoBuffer = "no-buffer",
        /// No headroom before a frame for an outer header.
        NoHeadroom = "no-headroom",
        /// The ring to the worker that owns the flow is full.
        HandoffFull = "handoff-full",
        /// Handed from worker to worker without finding its owner (a bug, or a change of configuration under way).
        HandoffLoop = "handoff-loop",
        /// The device did not take the frame.
        TxFull = "tx-full",
        /// The frame came in several pieces and is larger than any interface's packets, or no buffer was free for it.
        MultiSegment = "multi-segment",
        /// The data plane has not been programmed yet.
        NotProgrammed = "not-programmed",
        /// The nat_icmp_send setting answered a server's stray packet with port unreachable.
        StrayServerPacket = "stray-server-packet",
        /// Neighbour discovery that is malformed, or comes from beyond the link.
        BadNd = "bad-nd",
        /// Neighbour discovery about an address that is not ours.
        NdNotOurs = "nd-not-ours",
        /// Neighbour discovery by somebody who claims one of our addresses.
        NdConflict = "nd-conflict",
        /// Neighbour discovery that told nothing: an unsolicited advertisement, a flip-flop, a full table.
        NdIgnored = "nd-ignored",
        /// BGP, BFD, VRRP or OSPF for the host, beyond what may go up.
        ExceptionPolicedRouting = "exception-policed-routing",
        /// ARP, neighbour discovery, LLDP and the like for the host, beyond what may go up.
        ExceptionPolicedLink = "exception-policed-link",
        /// Management of the host, beyond what may go up.
        ExceptionPolicedManagement = "exception-policed-management",
        /// Answers to connections of the host's, beyond what may go up.
        ExceptionPolicedAnswers = "exception-policed-answers",
        /// Other packets for the host, beyond what may go up.
        ExceptionPolicedRest = "exception-policed-rest",
        /// Too many frames of one class wait for the host already.
        ExceptionFull = "exception-full",
        /// The exception interface did not take a frame for the host, or is not one of this data plane any more.
        ExceptionDown = "exception-down",
    }
}

names! {
    /// Things worth counting that are not drops.
    Event {
        /// Forwarded to a server by NAT.
        ForwardedNat = "forwarded.nat",
        /// Forwarded to a server by FULLNAT.
        ForwardedFullNat = "forwarded.fullnat",
        /// Forwarded to a server by direct routing.
        ForwardedDr = "forwarded.dr",
        /// Forwarded to a server by tunnel.
        ForwardedTun = "forwarded.tun",
        /// A server's answer sent on to its client.
        ForwardedReply = "forwarded.reply",
        /// Given to the host, which is the session's server.
        ForwardedLocal = "forwarded.local",
        /// An ICMP error about a session translated and sent on.
        ForwardedIcmp = "forwarded.icmp",
        /// Routed, no session concerned.
        ForwardedRoute = "forwarded.route",
        /// Session created.
        SessionCreated = "session.created",
        /// Persistence template created.
        TemplateCreated = "session.template",
        /// Session ended by its timer.
        SessionExpired = "session.expired",
        /// Session ended because its client opened a new one in its place.
        SessionReused = "session.reused",
        /// Session ended because another needed its local port.
        LocalPortReclaimed = "session.local-port-reclaimed",
        /// Session made for a data connection that FTP announced.
        FtpDataExpected = "session.ftp-data",
        /// Client's address put into a TCP option.
        AddressOptionAdded = "client-address.option",
        /// Segment sent without the option with its client's address, for which there was no room.
        AddressOptionOmitted = "client-address.option-omitted",
        /// Option that claimed to name a client's address removed from a client's segment.
        ForgedAddressRemoved = "client-address.forged-removed",
        /// Header with the client's address put before its data.
        AddressHeaderSent = "client-address.header",
        /// Maximum segment size that a SYN announced lowered.
        SegmentSizeLowered = "mss.lowered",
        /// Session ended because the table was full and another needed its place.
        SessionReclaimed = "session.reclaimed",
        /// Session that nobody misses ended, as the setting drop_entry wants it.
        SessionDropped = "session.dropped",
        /// Session of a one-packet service ended with its packet.
        SessionOfOnePacket = "session.one-packet",
        /// ARP request answered.
        ArpReplied = "replied.arp",
        /// ARP request sent.
        ArpAsked = "sent.arp-request",
        /// Gratuitous ARP sent.
        ArpAnnounced = "sent.arp-gratuitous",
        /// Neighbour solicitation answered.
        NdReplied = "replied.neighbour-solicitation",
        /// Neighbour solicitation sent.
        NdAsked = "sent.neighbour-solicitation",
        /// Groups reported in which neighbours ask for our addresses.
        ListeningReported = "sent.listener-report",
        /// Unsolicited neighbour advertisement sent.
        NdAnnounced = "sent.neighbour-advertisement",
        /// A neighbour's MAC address taken in.
        NeighbourLearned = "neighbour.learned",
        /// Echo request answered.
        EchoReplied = "replied.echo",
        /// Fragment of an echo request sent back as one of the reply.
        EchoFragmentReplied = "replied.echo-fragment",
        /// Time-stamp request answered.
        TimestampReplied = "replied.timestamp",
        /// RST sent.
        ResetSent = "sent.reset",
        /// ICMP error sent.
        IcmpSent = "sent.icmp-error",
        /// ICMP error not sent because of the rate limit.
        IcmpLimited = "limited.icmp-error",
        /// Packet parked until its next hop is resolved.
        Parked = "neighbour.parked",
        /// Fragment kept until its datagram's first one comes.
        FragmentHeld = "fragment.held",
        /// The MTU of the path to a TUN server learned from an ICMP error.
        PathMtuLearned = "path-mtu.learned",
        /// Outgoing packet cut into fragments.
        Fragmented = "sent.fragmented",
        /// A partial checksum of a virtual device completed.
        ChecksumCompleted = "received.checksum-completed",
        /// BGP, BFD, VRRP or OSPF given to the host.
        ExceptionRouting = "exception.routing",
        /// ARP, neighbour discovery, LLDP and the like given to the host.
        ExceptionLink = "exception.link",
        /// Management traffic given to the host.
        ExceptionManagement = "exception.management",
        /// Packets of sessions given to the host, their server or client.
        ExceptionServed = "exception.served",
        /// Answers to connections of the host's given to it.
        ExceptionAnswers = "exception.answers",
        /// Other packets given to the host.
        ExceptionRest = "exception.rest",
        /// Frame of the host sent as it was.
        ExceptionSent = "exception.sent",
    }
}

/// What became of an input frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictKind {
    /// Sent on, rewritten or not.
    Forward,
    /// Answered by the director itself, nothing sent on.
    Reply,
    /// Not sent on; a reply about it may have gone out.
    Drop,
    /// Taken by the director's host duties.
    Punt,
    /// Waits for its next hop.
    Hold,
}

/// The verdict on one input frame, for traces and replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What became of it.
    pub kind: VerdictKind,
    /// Why: the name of a [`Reason`] for drops, of an [`Event`] otherwise.
    pub reason: &'static str,
    /// The service concerned.
    pub service: Option<ServiceId>,
    /// The server concerned.
    pub server: Option<DestinationId>,
}
