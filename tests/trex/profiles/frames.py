"""The streams that the stateless profiles are made of. Frame sizes are a wire's: with the four bytes of the FCS."""

from argparse import ArgumentParser, Namespace

from trex.stl.api import (
    CTRexVmInsFixHwCs,
    Ether,
    IP,
    STLFlowLatencyStats,
    STLPktBuilder,
    STLScVmRaw,
    STLStream,
    STLTXCont,
    STLVmFixChecksumHw,
    STLVmTupleGen,
    STLVmWrFlowVar,
    TCP,
    UDP,
)

import plan

FCS = 4
SMALLEST, LARGEST = 64, 1518
HEADERS = 14 + 20 + 8
PROBE_GROUP = 7
"""The packet group by which TRex lists the latency."""


def tunables(description: str, arguments: list, flows: int) -> Namespace:
    """What every profile can be told after `-t`."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--flows", type=int, default=flows, help="clients' addresses and ports, in turn")
    parser.add_argument("--size", type=int, default=SMALLEST, help="frame size, 64 to 1518 (one size only)")
    parser.add_argument("--probes", type=int, default=1000, help="latency packets a second, 0: none")
    options = parser.parse_args(arguments)
    if not SMALLEST <= options.size <= LARGEST:
        parser.error("--size %d: frames have 64 to 1518 bytes" % options.size)
    if options.flows < 1 or options.probes < 0:
        parser.error("--flows is at least 1, --probes at least 0")
    return options


def udp(name: str, size: int, flows: int, pps: float) -> STLStream:
    """Datagrams of many clients to the VIP, with a checksum: a director gives one to those without, as IPVS does, and
    reads them whole for that."""
    datagram = Ether() / IP(src=plan.CLIENTS[0], dst=plan.VIP) / UDP(sport=1025, dport=plan.UDP_PORT)
    packet = datagram / bytes(size - FCS - HEADERS)
    program = STLScVmRaw(many_clients(flows) + [
        STLVmWrFlowVar(fv_name="client.ip", pkt_offset="IP.src"),
        STLVmWrFlowVar(fv_name="client.port", pkt_offset="UDP.sport"),
        STLVmFixChecksumHw(l3_offset="IP", l4_offset="UDP", l4_type=CTRexVmInsFixHwCs.L4_TYPE_UDP),
    ])
    return STLStream(name=name, packet=STLPktBuilder(pkt=packet, vm=program), mode=STLTXCont(pps=pps))


def syn(name: str, size: int, flows: int, pps: float) -> STLStream:
    """Connection requests of many clients to the VIP. A SYN is 40 bytes of IP, whatever the frame: the rest is
    Ethernet's padding and not part of the datagram. It is zeros, so that a NIC that sums to the frame's end sums
    right. (TRex does not send scapy's Padding: hence the length by hand.)"""
    ip = IP(src=plan.CLIENTS[0], dst=plan.VIP, len=40)
    packet = Ether() / ip / TCP(sport=1025, dport=plan.HTTP_PORT, flags="S") / bytes(size - FCS - 14 - 40)
    program = STLScVmRaw(many_clients(flows) + [
        STLVmWrFlowVar(fv_name="client.ip", pkt_offset="IP.src"),
        STLVmWrFlowVar(fv_name="client.port", pkt_offset="TCP.sport"),
        STLVmFixChecksumHw(l3_offset="IP", l4_offset="TCP", l4_type=CTRexVmInsFixHwCs.L4_TYPE_TCP),
    ])
    return STLStream(name=name, packet=STLPktBuilder(pkt=packet, vm=program), mode=STLTXCont(pps=pps))


def many_clients(flows: int) -> list:
    """Addresses first, then ports: neighbours in time are never of one client."""
    first, last = plan.CLIENTS
    return [STLVmTupleGen(name="client", ip_min=first, ip_max=last, port_min=1025, port_max=65535, limit_flows=flows)]


def probes(pps: int) -> list:
    """One client's datagrams, in whose last 16 bytes TRex writes number and time. Their rate is fixed, whatever the
    multiplier, and the UDP checksum has to be 0 because TRex would not correct it."""
    if pps == 0:
        return []
    datagram = Ether() / IP(src=plan.PROBE, dst=plan.VIP) / UDP(sport=1025, dport=plan.UDP_PORT, chksum=0)
    packet = STLPktBuilder(pkt=datagram / bytes(SMALLEST - FCS - HEADERS))
    latency = STLFlowLatencyStats(pg_id=PROBE_GROUP)
    return [STLStream(name="probes", packet=packet, mode=STLTXCont(pps=pps), flow_stats=latency)]
