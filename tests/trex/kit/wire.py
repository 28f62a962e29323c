"""Bytes on the wire: checksums, Ethernet frames with IPv4 and what is in them, pcap files. Standard library only."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Iterable, Iterator, Optional

TCP, UDP, IPIP = 6, 17, 4
ETHERNET, IPV4 = 14, 20


def checksum(data: bytes, start: int = 0) -> int:
    """The Internet checksum (RFC 1071) of what `start` is the sum of, and data."""
    if len(data) % 2:
        data += b"\0"
    total = start + sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(ends: bytes, protocol: int, length: int) -> int:
    """The sum that transport checksums start with; `ends` are source and destination."""
    return sum(struct.unpack("!4H", ends)) + protocol + length


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def address(packed: bytes) -> str:
    return str(ipaddress.IPv4Address(packed))


class Malformed(ValueError):
    """A frame that nobody should have sent."""


@dataclass(frozen=True)
class Frame:
    """An Ethernet frame of untagged IPv4 with TCP, UDP or IPv4 in it, lengths and checksums judged."""

    data: bytes
    destination: bytes
    source: bytes
    ip: bytes
    """The datagram, without Ethernet's padding."""

    @classmethod
    def read(cls, data: bytes, smallest: int = 60) -> Frame:
        """Raises `Malformed` for whatever is wrong with it. A director leaves padding to the device that sends, so
        that its frames may be smaller than a wire's."""
        require(len(data) >= max(smallest, ETHERNET + IPV4), f"{len(data)} bytes are no frame")
        require(data[12:14] == b"\x08\0", f"Ethernet type {data[12:14].hex()} is not IPv4")
        total = datagram(data[ETHERNET:])
        padding = data[ETHERNET + total :]
        require(not any(padding), "the padding is not zero")
        require(not padding or len(data) == 60 or data[23] == TCP, "a datagram with padding behind it")
        return cls(data, data[:6], data[6:12], data[ETHERNET : ETHERNET + total])

    @property
    def protocol(self) -> int:
        return self.ip[9]

    @property
    def ends(self) -> tuple[str, str]:
        """Source and destination address."""
        return address(self.ip[12:16]), address(self.ip[16:20])

    @property
    def client(self) -> tuple[str, int]:
        return self.ends[0], self.ports[0]

    @property
    def server(self) -> tuple[str, int]:
        return self.ends[1], self.ports[1]

    @property
    def ports(self) -> tuple[int, int]:
        return struct.unpack("!HH", self.ip[IPV4 : IPV4 + 4])

    @property
    def payload(self) -> bytes:
        """What is behind TCP's or UDP's header."""
        return self.ip[IPV4 + (8 if self.protocol == UDP else self.ip[IPV4 + 12] // 16 * 4) :]

    @property
    def inner(self) -> Optional[Frame]:
        """The frame as it would be without its tunnel."""
        if self.protocol != IPIP:
            return None
        ip = self.ip[IPV4:]
        return Frame(self.data[:ETHERNET] + ip, self.destination, self.source, ip)


def datagram(ip: bytes) -> int:
    """The length of the datagram that ip begins with, once it has been found in order."""
    require(ip[0] == 0x45, f"version and header length {ip[0]:#x}")
    total = struct.unpack("!H", ip[2:4])[0]
    require(IPV4 <= total <= len(ip), f"total length {total}, there are {len(ip)} bytes")
    require(checksum(ip[:IPV4]) == 0, "wrong IPv4 checksum")
    inside, protocol = ip[IPV4:total], ip[9]
    start = pseudo_header(ip[12:20], protocol, len(inside))
    if protocol == UDP:
        require(len(inside) >= 8, "no room for a UDP header")
        length, value = struct.unpack("!HH", inside[4:8])
        require(length == len(inside), f"UDP length {length}, there are {len(inside)} bytes")
        require(value == 0 or checksum(inside, start) == 0, "wrong UDP checksum")
    elif protocol == TCP:
        require(len(inside) >= 20 and len(inside) >= inside[12] // 16 * 4 >= 20, "no room for a TCP header")
        require(checksum(inside, start) == 0, "wrong TCP checksum")
    elif protocol == IPIP:
        require(datagram(inside) == len(inside), "bytes behind the inner datagram")
    else:
        raise Malformed(f"protocol {protocol}")
    return total


def require(fact: bool, message: str) -> None:
    if not fact:
        raise Malformed(message)


PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
"""Little-endian, nanoseconds, Ethernet."""


def record(nanoseconds: int, data: bytes) -> bytes:
    """A frame in a pcap file."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return struct.pack("<IIII", seconds, rest, len(data), len(data)) + data


def write_pcap(path: str, frames: Iterable[tuple[int, bytes]]) -> None:
    with open(path, "wb") as file:
        file.write(PCAP_HEADER)
        for nanoseconds, data in frames:
            file.write(record(nanoseconds, data))


def read_pcap(path: str) -> Iterator[bytes]:
    """The frames of a little-endian pcap file, of either resolution."""
    with open(path, "rb") as file:
        magic = file.read(24)[:4]
        if magic not in (b"\x4d\x3c\xb2\xa1", b"\xd4\xc3\xb2\xa1"):
            raise ValueError(f"{path} is not a pcap file of this machine's byte order")
        while head := file.read(16):
            yield file.read(struct.unpack("<IIII", head)[2])
