"""A TRex as a source of trials. TRex's Python interface comes from TREX_HOME; its server runs already."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, Callable, Optional

from kit.director import Counters, attribute
from kit.search import Trial

CLIENTS, SERVERS = 0, 1
"""TRex's ports."""
PREAMBLE_AND_GAP = 20
"""Bytes that a frame takes on the wire beside itself."""
MIDDLE = 0.8
"""Of a trial: when what changes meanwhile is looked at."""
PATIENCE = 120
"""Seconds that connections may take to end after a trial."""

Reader = Optional[Callable[[], Counters]]


def interface(home: str) -> type[Exception]:
    """Makes TRex's modules importable and returns what they raise. `ValueError` when they are not there."""
    directory = os.path.join(home, "automation", "trex_control_plane", "interactive")
    if not os.path.isdir(os.path.join(directory, "trex")):
        raise ValueError(f"TREX_HOME={home}: there is no {directory}/trex; it is the folder that has t-rex-64")
    sys.path.insert(0, directory)
    from trex.common.trex_exceptions import TRexError

    return TRexError


def usable(profile: Any) -> Any:
    """A profile that did not like its tunables, and has said so, is none."""
    if profile is None:
        raise ValueError("the profile was not loaded")
    return profile


class Generator:
    """What stateless and stateful trials have in common: counters of both ports and of the director."""

    def __init__(self, client: Any, seconds: float, director: Reader) -> None:
        self.client, self.seconds, self.director = client, seconds, director

    def version(self) -> str:
        return str(self.client.get_server_version().get("version", "unknown"))

    def close(self) -> None:
        self.client.disconnect()

    def line_rate(self) -> float:
        """The highest rate that is worth to be tried. Raises `ValueError` when nobody can know."""
        raise ValueError("conversations have no line rate: name the highest multiplier")

    def count(self) -> Counters:
        return self.director() if self.director else Counters()

    def trial(self, asked: float, rate: float, before: Counters, stats: dict, notes: dict[str, Any]) -> Trial:
        """Puts together what was counted. Frames that come back by the other port count as received, whoever sent
        them: nobody else may send there."""
        after = self.count().since(before)
        sent = sum(stats[port]["opackets"] for port in (CLIENTS, SERVERS))
        received = sum(stats[port]["ipackets"] for port in (CLIENTS, SERVERS))
        places = attribute(sent, received, after) if self.director else {}
        return Trial(asked, rate, sent, max(sent - received, 0), places, notes)


class Stateless(Generator):
    """Streams from port 0, which come back by port 1."""

    def __init__(self, client: Any, streams: list, seconds: float, director: Reader) -> None:
        super().__init__(client, seconds, director)
        self.streams = streams
        client.reset(ports=[CLIENTS, SERVERS])
        # The addresses of the configuration need not be those of the cards.
        client.set_port_attr(ports=[CLIENTS, SERVERS], promiscuous=True)
        client.add_streams(streams, ports=[CLIENTS])

    @classmethod
    def connect(cls, server: str, profile: str, tunables: list[str], seconds: float, director: Reader) -> Stateless:
        from trex.stl.api import STLClient, STLProfile

        loaded = usable(STLProfile.load(profile, direction=0, port_id=CLIENTS, tunables=tunables))
        client = STLClient(server=server)
        client.connect()
        return cls(client, loaded.get_streams(), seconds, director)

    def frame(self) -> float:
        """The mean size of the frames, latency streams left out."""
        weights = [
            (stream.get_pkt_len(), stream.to_json()["mode"]["rate"]["value"])
            for stream in self.streams
            if not stream.has_flow_stats()
        ]
        return sum(size * pps for size, pps in weights) / sum(pps for _, pps in weights)

    def line_rate(self) -> float:
        """Frames a second that the port can send."""
        gigabits = self.client.get_port_attr(CLIENTS)["speed"]
        return gigabits * 1e9 / 8 / (self.frame() + PREAMBLE_AND_GAP)

    def offer(self, asked: float) -> Trial:
        before = self.count()
        self.client.clear_stats()
        self.client.start(ports=[CLIENTS], mult=f"{asked:.3f}pps", duration=self.seconds, force=True)
        time.sleep(self.seconds * MIDDLE)
        busy = self.client.get_stats()["global"]["cpu_util"]
        self.client.wait_on_traffic(ports=[CLIENTS], timeout=self.seconds + PATIENCE, rx_delay_ms=500)
        stats = self.client.get_stats()
        notes = {"trex-cpu": busy, **latency(stats.get("latency", {}))}
        return self.trial(asked, stats[CLIENTS]["opackets"] / self.seconds, before, stats, notes)


def latency(groups: dict) -> dict[str, Any]:
    """Of the probes, in microseconds."""
    found: dict[str, Any] = {}
    for group, measured in groups.items():
        if group == "global":
            continue
        values = measured["latency"]
        found["latency-us"] = {key: values[name] for key, name in LATENCY.items()}
        found["probes-lost"] = measured["err_cntrs"]["dropped"]
    return found


LATENCY = {"min": "total_min", "average": "average", "max": "total_max", "jitter": "jitter"}


class Stateful(Generator):
    """Clients on port 0, servers on port 1; rates are multipliers of the profile's connections a second."""

    def __init__(self, client: Any, profile: Any, seconds: float, director: Reader) -> None:
        super().__init__(client, seconds, director)
        template = profile.to_json()["templates"][0]["client_template"]
        self.cps, self.limited = template["cps"], "limit" in template
        client.reset()
        client.set_port_attr(promiscuous=True)
        client.load_profile(profile)

    @classmethod
    def connect(cls, server: str, profile: str, tunables: list[str], seconds: float, director: Reader) -> Stateful:
        from trex.astf.api import ASTFClient, ASTFProfile

        loaded = usable(ASTFProfile.load(profile, tunables=tunables))
        client = ASTFClient(server=server)
        client.connect()
        return cls(client, loaded, seconds, director)

    def offer(self, asked: float) -> Trial:
        before = self.count()
        self.client.clear_stats()
        self.client.start(mult=int(asked), duration=self.seconds)
        time.sleep(self.seconds * MIDDLE)
        middle = self.client.get_stats()["global"]
        self.client.wait_on_traffic(timeout=self.seconds + PATIENCE)
        stats = self.client.get_stats()
        ends = stats["traffic"]["client"], stats["traffic"]["server"]
        attempts, made = (ends[0].get(f"tcps_{name}", 0) for name in ("connattempt", "connects"))
        notes = {
            "trex-cpu": middle["cpu_util"],
            "connections-per-second": made / self.seconds,
            "connections-failed": attempts - made,
            "connections-open": middle["active_flows"],
            "retransmitted": sum(end.get("tcps_sndrexmitpack", 0) for end in ends),
            "payload-bits-per-second": sum(end.get("tcps_rcvbyte", 0) for end in ends) * 8 / self.seconds,
        }
        # With a limit on open connections TRex starts no more than those that end.
        rate = asked if self.limited else attempts / self.seconds / self.cps
        return self.trial(asked, rate, before, stats, notes)
