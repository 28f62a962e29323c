"""The stateless profiles through `fulcrum-dataplane` itself, whose ports are captures (net_pcap): exact counts."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
import threading
import time
import unittest
from collections import Counter

from kit import profiles
from kit.director import Counters, Remote, attribute
from kit.programs import Director, configuration, needed, program
from kit.wire import PCAP_HEADER, Frame, mac, read_pcap, record

profiles.stand_in()
import plan  # noqa: E402 -- a profile's module

COUNT, FLOWS = 20000, 1000

FILLER = bytes(6) + mac(plan.TREX_MACS[0]) + b"\x88\xb5" + bytes(46)
"""A frame of an experimental Ethernet type, to another station: no director takes it in."""


class Feed(threading.Thread):
    """Writes a capture that has no end until it is told: a worker that reads a capture gets the frames at once, before
    there is a configuration, and would wait for the next one where a real port has none."""

    def __init__(self, path: str, frames: list[bytes]) -> None:
        super().__init__(daemon=True)
        self.path, self.frames = path, frames
        self.programmed = threading.Event()
        self.fillers = 0
        os.mkfifo(path)

    def run(self) -> None:
        try:
            with open(self.path, "wb") as pipe:
                pipe.write(PCAP_HEADER)
                while not self.programmed.is_set():
                    pipe.write(record(0, FILLER) * 64)
                    pipe.flush()
                    self.fillers += 64
                    time.sleep(0.001)
                for frame in self.frames:
                    pipe.write(record(0, frame))
        except BrokenPipeError:
            pass  # The data plane has ended; the test says so.


@needed
class Dataplane(unittest.TestCase):
    def test_what_goes_in_comes_out_and_is_counted(self) -> None:
        for mode, name in (("nat", "stl_udp"), ("fullnat", "stl_imix"), ("dr", "stl_syn")):
            with self.subTest(mode=mode, profile=name), tempfile.TemporaryDirectory() as here:
                self.run_through(mode, name, here)

    def run_through(self, mode: str, name: str, here: str) -> None:
        streams = profiles.load(name, "--flows", str(FLOWS))
        sent = profiles.frames(streams, mac(plan.DIRECTOR_MACS[0]), mac(plan.TREX_MACS[0]))
        frames = [data for _, data in itertools.islice(sent, COUNT)]
        feed, out = Feed(os.path.join(here, "in.pcap"), frames), os.path.join(here, "out.pcap")
        feed.start()
        with Director(here, on_captures(mode, here, feed.path, out)) as director:
            director.wait_programmed()
            feed.programmed.set()
            feed.join(60)
            self.assertFalse(feed.is_alive(), "the data plane has stopped to read")
            everything = feed.fillers + COUNT

            def through(counters: Counters, _: dict) -> bool:
                # Its own frames announce VIPs and local addresses.
                return counters.received == everything and counters.sent == COUNT + counters.own

            counters = director.wait("end of the capture", through)
            remote = Remote(f"{program('fulcrum')} --socket {director.socket}")
            asked = remote.counters()
            self.assertEqual((asked.received, asked.drops), (everything, counters.drops))
            self.assertRegex(remote.describe(), r"^\S+, DPDK \S+, 1 worker, wan net_pcap, lan net_pcap$")
        self.assertEqual(sum(counters.drops.values()), feed.fillers, counters.drops)
        self.assertEqual(counters.events[f"forwarded.{mode}"], COUNT)
        self.assertEqual(counters.events["session.created"], FLOWS + 1)
        lost = attribute(everything, COUNT + counters.own, counters)
        self.assertEqual(lost, {f"dropped: {name}": count for name, count in counters.drops.items()})

        ours = [data for data in read_pcap(out) if data[12:14] == b"\x08\0"]
        after = [Frame.read(data, smallest=0) for data in ours]
        self.assertEqual(len(after), COUNT)
        before = [Frame.read(data) for data in frames]
        self.assertEqual([frame.payload for frame in after], [frame.payload for frame in before])
        if mode != "dr":
            per_server = Counter(frame.server[0] for frame in after if frame.protocol == before[0].protocol)
            self.assertEqual(set(per_server), set(plan.SERVERS))


def on_captures(mode: str, here: str, source: str, out: str) -> str:
    """The director's file of that mode, as it is but for devices, cores and files."""
    with open(configuration(mode)) as file:
        text = file.read()
    changes = (
        (r'device = "0000:03:00.0"', f'device = "net_pcap0,rx_pcap={source},tx_pcap={here}/back.pcap"'),
        (r'device = "0000:03:00.1"', f'device = "net_pcap1,tx_pcap={out}"'),
        (r'lcores = "1-2"', f'lcores = "{min(os.sched_getaffinity(0))}"\nhugepages = "off"\nidle = "adaptive"'),
        (r"sessions = 4194304.*", f'sessions = 65536\nsocket = "{here}/dataplane.sock"'),
    )
    for pattern, replacement in changes:
        text, count = re.subn(pattern, replacement, text)
        assert count == 1, f"{pattern} is {count} times in {mode}.toml"
    return text + f'\n[control]\nsocket = "{here}/control.sock"\nstate-file = "{here}/state.toml"\n'


if __name__ == "__main__":
    unittest.main()
