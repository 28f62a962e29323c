"""Profiles: where they are, how they are loaded, and the frames that a stateless one sends."""

from __future__ import annotations

import heapq
import importlib
import os
import sys
from typing import Any, Iterator

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DIRECTORY = os.path.join(HERE, "profiles")
STATELESS = ("stl_udp", "stl_syn", "stl_imix")
STATEFUL = ("astf_http_connections", "astf_http_throughput", "astf_http_concurrent")


def stand_in() -> None:
    """Makes the packages in `render` those that profiles import."""
    for directory in (DIRECTORY, os.path.join(HERE, "render")):
        if directory not in sys.path:
            sys.path.insert(0, directory)


def path(name: str) -> str:
    return os.path.join(DIRECTORY, name + ".py")


def load(name: str, *tunables: str) -> Any:
    """A profile by the stand-in: a list of streams, or an `ASTFProfile`."""
    stand_in()
    profile = importlib.import_module(name).register()
    build = profile.get_streams if name in STATELESS else profile.get_profile
    return build(tunables=list(tunables), direction=0, port_id=0)


def frames(streams: list, destination: bytes, source: bytes) -> Iterator[tuple[int, bytes]]:
    """What the streams send together, in order of time: nanoseconds, frame."""
    queue = []
    for order, stream in enumerate(streams):
        gap = round(1_000_000_000 / stream.mode.pps)
        queue.append((0, order, gap, stream.frames()))
    heapq.heapify(queue)
    while queue:
        now, order, gap, packets = heapq.heappop(queue)
        yield now, destination + source + next(packets)[12:]
        heapq.heappush(queue, (now + gap, order, gap, packets))
