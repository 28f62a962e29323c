"""What becomes of TRex's and the director's counters, by a client that answers as TRex's documentation says; reports.
With TREX_HOME set, the calls made are held against the real clients."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stdout
from unittest import mock

import run
from kit import report
from kit.director import Counters
from kit.generator import Stateful, Stateless
from kit.search import Range, search

NANOSECONDS_PER_PACKET = 500
"""Of the device that is imagined: 2 million packets a second."""


class Wire:
    """Two ports of a TRex and the director between them, as counters."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list, dict]] = []
        self.offered = self.sent = 0
        self.counted = Counters(received=5, sent=7, drops={"no-route": 3}, events={"sent.arp-gratuitous": 2})

    def __getattr__(self, name: str):
        def call(*arguments, **named):
            self.calls.append((name, list(arguments), named))
            return getattr(self, "on_" + name)(*arguments, **named)

        # What nobody answers is a call that returns nothing.
        return call if not name.startswith("on_") else lambda *_, **__: None

    def on_get_port_attr(self, port: int) -> dict:
        return {"speed": 10.0}

    def pass_on(self, packets: int, seconds: float) -> None:
        """What the device manages comes through; the rest meets a full queue, but for three that it drops."""
        able = min(packets, round(seconds * 1e9 / NANOSECONDS_PER_PACKET))
        lost = packets - able
        dropped = min(lost, 3)
        before = self.counted
        self.offered, self.sent = packets, able
        self.counted = Counters(
            received=before.received + able + dropped,
            missed=before.missed + lost - dropped,
            sent=before.sent + able,
            drops={**before.drops, "tx-full": before.drops.get("tx-full", 0) + dropped},
            events=before.events,
            sessions=1000,
        )

    def read(self) -> Counters:
        return self.counted


class Streams(Wire):
    def on_start(self, ports: list, mult: str, duration: float, force: bool) -> None:
        self.pass_on(round(float(mult[: -len("pps")]) * duration), duration)

    def on_get_stats(self) -> dict:
        probe = {
            "latency": {"total_min": 4, "average": 9.5, "total_max": 81, "jitter": 2, "last_max": 3, "histogram": {}},
            "err_cntrs": {"dropped": 1, "dup": 0, "out_of_order": 0, "seq_too_high": 0, "seq_too_low": 0},
        }
        return {
            0: {"opackets": self.offered, "ipackets": 0},
            1: {"opackets": 0, "ipackets": self.sent},
            "global": {"cpu_util": 12.5, "active_flows": 0},
            "latency": {"global": {"old_flow": 0, "bad_hdr": 0}, 7: probe},
        }


class Stream:
    def __init__(self, size: int, pps: float, probe: bool = False) -> None:
        self.get_pkt_len = lambda: size
        self.to_json = lambda: {"mode": {"rate": {"type": "pps", "value": pps}}}
        self.has_flow_stats = lambda: probe


class Connections(Wire):
    """Ten packets a connection."""

    def on_start(self, mult: int, duration: float) -> None:
        self.attempts = round(mult * 100 * duration)
        self.pass_on(self.attempts * 10, duration)

    def on_get_stats(self) -> dict:
        client = {"tcps_connattempt": self.attempts, "tcps_connects": self.sent // 10, "tcps_rcvbyte": 1000}
        return {
            0: {"opackets": self.offered // 2, "ipackets": self.sent // 2},
            1: {"opackets": self.offered - self.offered // 2, "ipackets": self.sent - self.sent // 2},
            "global": {"cpu_util": 70.0, "active_flows": 55},
            "traffic": {"client": client, "server": {"tcps_rcvbyte": 500, "tcps_sndrexmitpack": 4}},
        }


class Profile:
    def __init__(self, **limit: int) -> None:
        self.to_json = lambda: {"templates": [{"client_template": {"cps": 100, **limit}}]}


class Trials(unittest.TestCase):
    def setUp(self) -> None:
        patch = mock.patch("time.sleep")
        patch.start()
        self.addCleanup(patch.stop)

    def test_the_line_rate_is_of_the_mean_frame(self) -> None:
        self.assertAlmostEqual(Stateless(Streams(), [Stream(64, 1000)], 1, None).line_rate(), 14_880_952, delta=1)
        imix = [Stream(64, 700), Stream(594, 400), Stream(1518, 100), Stream(64, 1000, probe=True)]
        mean = (64 * 7 + 594 * 4 + 1518) / 12
        self.assertAlmostEqual(Stateless(Streams(), imix, 1, None).line_rate(), 1.25e9 / (mean + 20), delta=1)

    def test_a_stateless_trial_tells_where_packets_stayed(self) -> None:
        wire = Streams()
        trex = Stateless(wire, [Stream(64, 1000)], 2, wire.read)
        good = trex.offer(1e6)
        self.assertEqual((good.rate, good.sent, good.lost, good.places), (1e6, 2_000_000, 0, {}))
        self.assertEqual(good.notes["latency-us"], {"min": 4, "average": 9.5, "max": 81, "jitter": 2})
        bad = trex.offer(3e6)
        self.assertEqual((bad.sent, bad.lost), (6_000_000, 2_000_000))
        self.assertEqual(bad.places, {"rx-missed: the workers do not keep up": 1_999_997, "dropped: tx-full": 3})

    def test_without_a_director_loss_is_a_number(self) -> None:
        self.assertEqual(Stateless(Streams(), [Stream(64, 1)], 1, None).offer(3e6).places, {})

    def test_a_stateful_trial_counts_connections(self) -> None:
        wire = Connections()
        trex = Stateful(wire, Profile(), 10, wire.read)
        good = trex.offer(1000)
        self.assertEqual((good.asked, good.rate, good.lost), (1000, 1000, 0))
        self.assertEqual(good.notes["connections-per-second"], 100_000)
        self.assertEqual((good.notes["connections-open"], good.notes["retransmitted"]), (55, 4))
        bad = trex.offer(3000)
        self.assertEqual(bad.notes["connections-failed"], 1_000_000)
        self.assertEqual(bad.lost, 10_000_000)
        self.assertFalse(bad.short)

    def test_a_limit_on_open_connections_is_no_weakness_of_the_generator(self) -> None:
        wire = Connections()
        wire.on_start = lambda mult, duration: Connections.on_start(wire, 1, duration)
        self.assertTrue(Stateful(wire, Profile(), 10, None).offer(50).short)
        self.assertFalse(Stateful(wire, Profile(limit=5), 10, None).offer(50).short)

    def test_reports_say_what_was_found(self) -> None:
        wire, trials = Streams(), []
        trex = Stateless(wire, [Stream(64, 1000)], 2, wire.read)
        within = Range(1e4, trex.line_rate(), 0.005)
        results = {name: search(trex.offer, within, loss, trials) for name, loss in (("NDR", 0), ("PDR", 0.01))}
        conditions = {"profile": "stl_udp --size 64", "unit": "packets a second", "seconds": 2}
        document = json.loads(report.to_json(conditions, results, trials))
        self.assertAlmostEqual(document["results"]["NDR"]["best"]["rate"] / 2e6, 1, delta=0.006)
        self.assertEqual(document["results"]["PDR"]["limit"], "more is lost")
        self.assertEqual(len(document["trials"]), len(trials))
        page = report.to_markdown(conditions, results, trials)
        self.assertIn("# stl_udp --size 64\n\n- unit: packets a second\n- seconds: 2\n", page)
        self.assertRegex(page, r"\| NDR \| 0 % \| (1\u202f99\d|2\u202f000)\u202f\d{3} \| more is lost \|")
        self.assertRegex(page, r"\d+ rx-missed: the workers do not keep up; 3 dropped: tx-full")
        rows = [line for line in page.splitlines() if line.startswith("|")]
        self.assertEqual({line.count("|") for line in rows[:4]}, {5})
        self.assertEqual({line.count("|") for line in rows[4:]}, {8})

    def test_the_runner_writes_what_it_found(self) -> None:
        wire = Streams()
        wire.on_get_server_version = lambda: {"version": "v3.08"}
        connect = mock.patch.object(Stateless, "connect", lambda *_: Stateless(wire, [Stream(64, 1)], 10, wire.read))
        interface = mock.patch("kit.generator.interface", lambda home: RuntimeError)
        with connect, interface, tempfile.TemporaryDirectory() as here, redirect_stdout(io.StringIO()) as said:
            output = os.path.join(here, "found")
            words = ["run.py", output, "--profile", "stl_udp", "--trex-home", "here", "--", "--flows", "9"]
            with mock.patch.object(sys, "argv", words):
                run.main()
            with open(output + ".json") as file:
                document = json.load(file)
            with open(output + ".md") as file:
                self.assertTrue(file.read().startswith("# stl_udp --flows 9\n"))
        self.assertEqual(document["conditions"]["trex"], "v3.08")
        self.assertAlmostEqual(document["results"]["NDR"]["best"]["rate"] / 2e6, 1, delta=0.011)
        self.assertRegex(said.getvalue(), r"\nPDR  .+ packets a second \(more is lost\)\n$")

    @unittest.skipUnless(os.environ.get("TREX_HOME"), "TREX_HOME is not set: not held against TRex's clients")
    def test_the_calls_are_ones_that_trex_takes(self) -> None:
        streams, connections = Streams(), Connections()
        stateless = Stateless(streams, [Stream(64, 1000)], 1, None)
        stateful = Stateful(connections, Profile(), 1, None)
        for trex in (stateless, stateful):
            trex.offer(1)
            trex.client.disconnect()
            trex.client.get_server_version()
        stateless.line_rate()
        for client, wire in (("stl.api.STLClient", streams), ("astf.api.ASTFClient", connections)):
            calls = [(name, len(arguments), list(named)) for name, arguments, named in wire.calls]
            module, _, name = client.rpartition(".")
            code = (
                "import inspect, json, sys; from kit import generator; generator.interface(sys.argv[1])\n"
                f"from trex.{module} import {name} as client\n"
                "for call, count, named in json.load(sys.stdin):\n"
                "    inspect.signature(getattr(client, call)).bind(client, *range(count), **dict.fromkeys(named))\n"
            )
            command = [sys.executable, "-W", "ignore", "-c", code, os.environ["TREX_HOME"]]
            tried = subprocess.run(command, input=json.dumps(calls), text=True, capture_output=True)
            self.assertEqual(tried.returncode, 0, f"{client}: {tried.stderr}")


if __name__ == "__main__":
    unittest.main()
