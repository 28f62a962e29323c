"""What a director counted between two moments, and what became of the packets that did not come through."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Counters:
    """From `fulcrum status --json`: sums over the ports, and drops by reason."""

    received: int = 0
    missed: int = 0
    errors: int = 0
    sent: int = 0
    drops: dict[str, int] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    sessions: int = 0

    @classmethod
    def read(cls, status: dict[str, Any]) -> Counters:
        """Raises `ValueError` when there is no data plane to count."""
        dataplane = status.get("dataplane")
        if not dataplane:
            raise ValueError("the director's data plane is not running")

        def total(key: str) -> int:
            return sum(int(port.get(key, 0)) for port in dataplane["ports"])

        return cls(
            received=total("rx_packets"),
            missed=total("rx_missed"),
            errors=total("rx_errors"),
            sent=total("tx_packets"),
            drops=named(dataplane.get("drops", [])),
            events=named(dataplane.get("events", [])),
            sessions=sum(int(worker.get("sessions", 0)) for worker in dataplane["workers"]),
        )

    def since(self, before: Counters) -> Counters:
        """What was counted meanwhile; the sessions are those there are now."""
        return Counters(
            received=self.received - before.received,
            missed=self.missed - before.missed,
            errors=self.errors - before.errors,
            sent=self.sent - before.sent,
            drops=grown(self.drops, before.drops),
            events=grown(self.events, before.events),
            sessions=self.sessions,
        )

    @property
    def dropped(self) -> int:
        return sum(self.drops.values())

    @property
    def own(self) -> int:
        """Frames that the director sent of itself: questions, answers, errors."""
        own = [name for name in self.events if name.startswith(("sent.", "replied.")) and name != "sent.fragmented"]
        return sum(self.events[name] for name in own)


def named(counts: list[dict[str, Any]]) -> dict[str, int]:
    return {count["name"]: int(count["count"]) for count in counts}


def grown(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """What has changed, and by how much."""
    differences = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in differences.items() if count}


def attribute(sent: int, received: int, director: Counters) -> dict[str, int]:
    """Where packets stayed, of those that the generator sent and did not receive: place → count, without zeros.

    A negative count says that there were more packets than before that place: somebody else sends there too."""
    places = {
        "before the director": sent - director.received - director.missed - director.errors,
        "rx-missed: the workers do not keep up": director.missed,
        "rx-errors": director.errors,
        **{f"dropped: {name}": count for name, count in director.drops.items()},
        "in the director, not as drops": director.received + director.own - director.dropped - director.sent,
        "behind the director": director.sent - received,
    }
    return {place: count for place, count in places.items() if count}


class Remote:
    """A director that is asked by a command line which ends in `fulcrum`, such as `ssh root@director fulcrum`."""

    def __init__(self, command: str) -> None:
        self.command = command

    def status(self) -> dict[str, Any]:
        """Raises `ValueError` with what it said instead."""
        command = [*shlex.split(self.command), "status", "--json"]
        done = subprocess.run(command, text=True, capture_output=True, timeout=30)
        if done.returncode:
            raise ValueError(f"`{self.command} status --json`: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def counters(self) -> Counters:
        return Counters.read(self.status())

    def describe(self) -> str:
        """What a report says of it."""
        dataplane = self.status().get("dataplane")
        if not dataplane:
            raise ValueError("the director's data plane is not running")
        ports = ", ".join(f"{port['name']} {port['driver']}" for port in dataplane["ports"])
        workers = len(dataplane["workers"])
        return f"{dataplane['version']}, {dataplane['dpdk']}, {workers} worker{'s' * (workers > 1)}, {ports}"
