"""A stand-in for `trex.stl.api` where there is no TRex: as much as the profiles here use, so that they can be rendered
and judged. Written after the interface's documentation; the tests compare what it builds with a TRex that is there."""

from __future__ import annotations

import base64
import ipaddress
import struct
from typing import Iterator, Optional, Union

from kit.wire import checksum, pseudo_header

# Layers, called and filled as scapy does.


class Layer:
    """One header. `fields` are places in it: name → offset. `number` is what IP calls it."""

    name = ""
    length = 0
    number = 0
    fields: dict[str, int] = {}

    def __truediv__(self, other: Union[Layer, bytes]) -> Packet:
        return Packet([self]) / other

    def build(self, inside: bytes, below: Optional[Layer], above: Optional[Layer]) -> bytes:
        """The header around what is inside, on one layer and under another."""
        raise NotImplementedError

    def sum(self, below: Optional[Layer], length: int, data: bytes) -> int:
        """A transport checksum; IP's length, where it is given, leaves padding out."""
        if not isinstance(below, IP):
            raise ValueError(f"{self.name}'s checksum needs the addresses of an IP layer")
        length = length if below.total is None else below.total - IP.length
        return checksum(data, pseudo_header(below.ends, self.number, length))


class Packet:
    """Layers, from the outermost."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    def __truediv__(self, other: Union[Layer, bytes]) -> Packet:
        return Packet([*self.layers, Raw(other) if isinstance(other, bytes) else other])

    def __len__(self) -> int:
        return len(bytes(self))

    def __bytes__(self) -> bytes:
        data, above = b"", None
        for position, layer in reversed(list(enumerate(self.layers))):
            below = self.layers[position - 1] if position else None
            data, above = layer.build(data, below, above) + data, layer
        return data

    def offset(self, name: str) -> int:
        """Where a layer begins."""
        before = 0
        for layer in self.layers:
            if layer.name == name:
                return before
            before += layer.length
        raise ValueError(f"there is no {name} in {'/'.join(layer.name for layer in self.layers)}")

    def field(self, path: str) -> int:
        """Where a field such as `IP.src` begins."""
        name, field = path.split(".")
        fields = next((layer.fields for layer in self.layers if layer.name == name), {})
        if field not in fields:
            raise ValueError(f"there is no field {path}")
        return self.offset(name) + fields[field]


class Raw(Layer):
    name = "Raw"

    def __init__(self, load: bytes) -> None:
        self.load = load
        self.length = len(load)

    def build(self, inside: bytes, below: Optional[Layer], above: Optional[Layer]) -> bytes:
        return self.load


class Ether(Layer):
    """Its addresses are TRex's to fill in."""

    name = "Ethernet"
    length = 14

    def build(self, inside: bytes, below: Optional[Layer], above: Optional[Layer]) -> bytes:
        return bytes(12) + b"\x08\0"


class IP(Layer):
    name = "IP"
    length = 20
    fields = {"src": 12, "dst": 16}

    def __init__(self, src: str, dst: str, len: Optional[int] = None) -> None:
        self.ends = b"".join(ipaddress.IPv4Address(end).packed for end in (src, dst))
        self.total = len

    def build(self, inside: bytes, below: Optional[Layer], above: Optional[Layer]) -> bytes:
        protocol = above.number if above else 0
        total = 20 + len(inside) if self.total is None else self.total
        head = struct.pack("!BBHHHBB", 0x45, 0, total, 1, 0, 64, protocol)
        return head + struct.pack("!H", checksum(head + self.ends)) + self.ends


class UDP(Layer):
    name = "UDP"
    length = 8
    number = 17
    fields = {"sport": 0, "dport": 2}

    def __init__(self, sport: int, dport: int, chksum: Optional[int] = None) -> None:
        self.sport, self.dport, self.chksum = sport, dport, chksum

    def build(self, inside: bytes, below: Optional[Layer], above: Optional[Layer]) -> bytes:
        head = struct.pack("!HHH", self.sport, self.dport, 8 + len(inside))
        chksum = self.chksum
        if chksum is None:
            chksum = self.sum(below, 8 + len(inside), head + b"\0\0" + inside) or 0xFFFF
        return head + struct.pack("!H", chksum)


class TCP(Layer):
    name = "TCP"
    length = 20
    number = 6
    fields = {"sport": 0, "dport": 2}

    def __init__(self, sport: int, dport: int, flags: str) -> None:
        bits = sum(1 << "FSRPAUEC".index(flag) for flag in flags)
        self.head = struct.pack("!HHIIBBH", sport, dport, 0, 0, 5 << 4, bits, 8192)

    def build(self, inside: bytes, below: Optional[Layer], above: Optional[Layer]) -> bytes:
        value = self.sum(below, 20 + len(inside), self.head + bytes(4) + inside)
        return self.head + struct.pack("!HH", value, 0)


# Field engine programs.


class Instruction:
    """What a program does with each packet."""

    def compile(self, packet: Packet) -> dict:
        """As TRex's server is told, so that both can be compared."""
        raise NotImplementedError


def number(value: Union[str, int]) -> int:
    return int(ipaddress.IPv4Address(value)) if isinstance(value, str) else value


class STLVmTupleGen(Instruction):
    """`NAME.ip` counts fastest, `NAME.port` when it has come round, both from the start after limit_flows."""

    def __init__(self, name: str, ip_min: str, ip_max: str, port_min: int, port_max: int, limit_flows: int) -> None:
        self.name, self.limit_flows = name, limit_flows
        self.ip_min, self.ip_max = number(ip_min), number(ip_max)
        self.port_min, self.port_max = port_min, port_max

    def compile(self, packet: Packet) -> dict:
        return {"type": "tuple_flow_var", **vars(self)}


class STLVmWrFlowVar(Instruction):
    def __init__(self, fv_name: str, pkt_offset: str) -> None:
        self.name, self.pkt_offset = fv_name, pkt_offset

    def compile(self, packet: Packet) -> dict:
        return {"type": "write_flow_var", "name": self.name, "pkt_offset": packet.field(self.pkt_offset)}


class CTRexVmInsFixHwCs:
    L4_TYPE_UDP = 11
    L4_TYPE_TCP = 13


class STLVmFixChecksumHw(Instruction):
    def __init__(self, l3_offset: str, l4_offset: str, l4_type: int) -> None:
        self.l3_offset, self.l4_offset, self.l4_type = l3_offset, l4_offset, l4_type

    def compile(self, packet: Packet) -> dict:
        l3, l4 = packet.offset(self.l3_offset), packet.offset(self.l4_offset)
        return {"type": "fix_checksum_hw", "l2_len": l3, "l3_len": l4 - l3, "l4_type": self.l4_type}


class STLScVmRaw:
    def __init__(self, list_of_commands: list[Instruction]) -> None:
        self.commands = list_of_commands


# Streams.


class STLPktBuilder:
    def __init__(self, pkt: Packet, vm: Optional[STLScVmRaw] = None) -> None:
        self.packet = pkt
        self.instructions = [command.compile(self.packet) for command in (vm.commands if vm else [])]


class STLTXCont:
    def __init__(self, pps: float) -> None:
        self.pps = pps


class STLFlowLatencyStats:
    def __init__(self, pg_id: int) -> None:
        self.pg_id = pg_id


class STLStream:
    def __init__(
        self, name: str, packet: STLPktBuilder, mode: STLTXCont, flow_stats: Optional[STLFlowLatencyStats] = None
    ) -> None:
        self.name, self.packet, self.mode, self.flow_stats = name, packet, mode, flow_stats

    def to_json(self) -> dict:
        """The part of a stream's JSON that this knows."""
        stats: dict = {"enabled": False}
        if self.flow_stats:
            stats = {"enabled": True, "rule_type": "latency", "stream_id": self.flow_stats.pg_id}
        return {
            "name": self.name,
            "mode": {"type": "continuous", "rate": {"type": "pps", "value": self.mode.pps}},
            "packet": {"binary": base64.b64encode(bytes(self.packet.packet)).decode()},
            "vm": {"instructions": self.packet.instructions},
            "flow_stats": stats,
        }

    def frames(self) -> Iterator[bytes]:
        """What it sends, packet after packet, for ever."""
        template, step = bytes(self.packet.packet), 0
        while True:
            data = bytearray(template)
            values: dict[str, bytes] = {}
            for instruction in self.packet.instructions:
                execute(instruction, step, values, data)
            yield bytes(data)
            step += 1


def execute(instruction: dict, step: int, values: dict[str, bytes], data: bytearray) -> None:
    """One instruction, on the packet with number `step` of the stream."""
    kind = instruction["type"]
    if kind == "tuple_flow_var":
        flow = step % instruction["limit_flows"]
        addresses = instruction["ip_max"] - instruction["ip_min"] + 1
        ports = instruction["port_max"] - instruction["port_min"] + 1
        name = instruction["name"]
        values[f"{name}.ip"] = struct.pack("!I", instruction["ip_min"] + flow % addresses)
        values[f"{name}.port"] = struct.pack("!H", instruction["port_min"] + flow // addresses % ports)
    elif kind == "write_flow_var":
        value, offset = values[instruction["name"]], instruction["pkt_offset"]
        data[offset : offset + len(value)] = value
    elif kind == "fix_checksum_hw":
        l3 = instruction["l2_len"]
        l4 = l3 + instruction["l3_len"]
        tcp = instruction["l4_type"] == CTRexVmInsFixHwCs.L4_TYPE_TCP
        fix(data, l3 + 10, l3, l4, 0)
        end = l3 + struct.unpack_from("!H", data, l3 + 2)[0]
        start = pseudo_header(bytes(data[l3 + 12 : l3 + 20]), TCP.number if tcp else UDP.number, end - l4)
        # To the frame's end, padding and all: that is what NICs do.
        place = l4 + (16 if tcp else 6)
        fix(data, place, l4, len(data), start)
        if not tcp and data[place : place + 2] == b"\0\0":
            data[place : place + 2] = b"\xff\xff"  # RFC 768: 0 would be none
    else:
        raise ValueError(f"the field engine here does not know {kind}")


def fix(data: bytearray, place: int, begin: int, end: int, start: int) -> None:
    """Writes the checksum of a range to its place in it."""
    data[place : place + 2] = b"\0\0"
    struct.pack_into("!H", data, place, checksum(bytes(data[begin:end]), start))
