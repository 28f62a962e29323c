"""The stateless profiles through `fulcrum replay`, with each of the director's files: exact counts, judged frames."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import unittest
from collections import Counter

from kit import profiles
from kit.programs import MODES, configuration, fulcrum, needed
from kit.wire import Frame, mac, read_pcap, write_pcap

profiles.stand_in()
import plan  # noqa: E402 -- a profile's module

FLOWS, COUNT = 400, 2000
KEEP = os.environ.get("TREX_CHECK_OUTPUT", "")
"""Where the rendered profiles are left, for whoever wants to look at them."""


def rendered(name: str, directory: str) -> str:
    """A profile as a capture of COUNT frames."""
    path = os.path.join(KEEP or directory, name + ".pcap")
    streams = profiles.load(name, "--flows", str(FLOWS))
    frames = profiles.frames(streams, mac(plan.DIRECTOR_MACS[0]), mac(plan.TREX_MACS[0]))
    write_pcap(path, itertools.islice(frames, COUNT))
    return path


@needed
class Replay(unittest.TestCase):
    def test_the_directors_files_are_fine(self) -> None:
        for mode in MODES:
            self.assertIn("2 ports, 2 interfaces, 2 services, 8 servers", fulcrum("check", configuration(mode)))

    def test_every_profile_comes_through_in_every_mode(self) -> None:
        for mode, name in itertools.product(MODES, profiles.STATELESS):
            with self.subTest(mode=mode, profile=name), tempfile.TemporaryDirectory() as here:
                self.replay(mode, rendered(name, here), here)

    def replay(self, mode: str, capture: str, here: str) -> None:
        out, verdicts = os.path.join(here, "out.pcap"), os.path.join(here, "verdicts.jsonl")
        files = ["--in", capture, "--out", out, "--verdicts", verdicts]
        fulcrum("replay", "--config", configuration(mode), "--port", "wan", *files)
        before = [Frame.read(data) for data in read_pcap(capture)]
        after = [Frame.read(data, smallest=0) for data in read_pcap(out)]
        with open(verdicts) as file:
            lines = [json.loads(line) for line in file]
        self.assertEqual((len(before), len(after)), (COUNT, COUNT))
        self.assertEqual(Counter(line["reason"] for line in lines), {f"forwarded.{mode}": COUNT})

        servers: dict[tuple, str] = {}
        locals_: dict[tuple, tuple] = {}
        for number, (old, line) in enumerate(zip(before, lines)):
            self.assertEqual(line["out"], [number + 1])
            new = after[number]
            flow = (old.protocol, old.client)
            self.assertEqual(servers.setdefault(flow, line["server"]), line["server"], "a flow changed its server")
            judge(self, mode, old, new, line["server"])
            if mode == "fullnat":
                self.assertEqual(locals_.setdefault(flow, new.client), new.client, "a flow changed its local address")
        per_server = Counter(server for (protocol, _), server in servers.items() if protocol == before[0].protocol)
        self.assertLessEqual(max(per_server.values()) - min(per_server.values()), 1, "round robin")
        self.assertEqual({server.split(":")[0] for server in servers.values()}, set(plan.SERVERS))
        ends = Counter((flow[0], end, servers[flow]) for flow, end in locals_.items())
        self.assertEqual(set(ends.values()) - {1}, set(), "two flows share a local address and port")


def judge(test: unittest.TestCase, mode: str, old: Frame, new: Frame, server: str) -> None:
    """What may change by a mode has, and nothing else."""
    test.assertEqual((new.destination, new.source), (mac(plan.TREX_MACS[1]), mac(plan.DIRECTOR_MACS[1])))
    host, port = server.rsplit(":", 1)
    if mode == "tun":
        inner = new.inner
        assert inner is not None, "no tunnel"
        test.assertEqual(new.ends, ("10.1.0.1", host))
        new = inner
    towards = old.server if mode in ("dr", "tun") else (host, int(port))
    test.assertEqual(new.server, towards)
    if mode == "fullnat":
        test.assertTrue("10.1.0.200" <= new.client[0] <= "10.1.0.215", new.client)
    else:
        test.assertEqual(new.client, old.client)
    test.assertEqual(new.payload, old.payload)
    # By these TRex's receiver knows latency packets: type of service, length, identification.
    test.assertEqual(new.ip[1:8], old.ip[1:8])


if __name__ == "__main__":
    unittest.main()
