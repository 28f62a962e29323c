"""What the profiles send and say, judged without TRex; and with it, when TREX_HOME is set, what TRex makes of them."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import unittest
from typing import Any

from kit import profiles
from kit.profiles import load
from kit.wire import TCP, UDP, Frame, Malformed, checksum, mac

profiles.stand_in()
import plan  # noqa: E402 -- a profile's module

COUNT = 3000
DIRECTOR, TREX = mac(plan.DIRECTOR_MACS[0]), mac(plan.TREX_MACS[0])


def sent(name: str, *tunables: str, count: int = COUNT) -> list[Frame]:
    """The first frames of a profile, each of them judged."""
    frames = itertools.islice(profiles.frames(load(name, *tunables), DIRECTOR, TREX), count)
    return [Frame.read(data) for _, data in frames]


def between(ends: tuple[str, str], client: str) -> bool:
    first, last, this = (tuple(map(int, end.split("."))) for end in (*ends, client))
    return first <= this <= last


class Stateless(unittest.TestCase):
    def test_every_frame_goes_from_a_client_to_a_service(self) -> None:
        for name in profiles.STATELESS:
            for frame in sent(name):
                self.assertEqual((frame.destination, frame.source), (DIRECTOR, TREX))
                port = {UDP: plan.UDP_PORT, TCP: plan.HTTP_PORT}[frame.protocol]
                self.assertEqual(frame.server, (plan.VIP, port))
                self.assertTrue(frame.client[0] == plan.PROBE or between(plan.CLIENTS, frame.client[0]), frame.client)

    def test_flows_are_as_many_as_asked_for_and_come_in_turn(self) -> None:
        for name in ("stl_udp", "stl_syn"):
            clients = [frame.client for frame in sent(name, "--flows", "1000", "--probes", "0")]
            self.assertEqual(len(set(clients)), 1000)
            self.assertEqual(clients[:1000], clients[1000:2000])
            self.assertEqual(clients[0], (plan.CLIENTS[0], 1025))

    def test_ports_follow_when_the_addresses_are_used_up(self) -> None:
        clients = [frame.client for frame in sent("stl_udp", "--flows", "70000", "--probes", "0", count=65540)]
        self.assertEqual(clients[65533:65536], [(plan.CLIENTS[1], 1025), (plan.CLIENTS[0], 1026), ("16.0.0.2", 1026)])
        self.assertEqual(len(set(clients)), 65540)

    def test_a_syn_is_forty_bytes_of_ip_whatever_the_frame(self) -> None:
        for size in (64, 65, 1518):
            for frame in sent("stl_syn", "--size", str(size), "--probes", "0", count=100):
                self.assertEqual((len(frame.data), len(frame.ip)), (size - 4, 40))
                self.assertEqual((frame.protocol, frame.ip[33], frame.payload), (TCP, 0x02, b""))

    def test_datagrams_fill_their_frames(self) -> None:
        for size in (64, 65, 594, 1518):
            for frame in sent("stl_udp", "--size", str(size), count=100):
                expected = 64 if frame.client[0] == plan.PROBE else size
                self.assertEqual((len(frame.data), len(frame.ip)), (expected - 4, expected - 18))

    def test_imix_has_its_shares(self) -> None:
        sizes = [len(frame.data) + 4 for frame in sent("stl_imix", "--probes", "0", count=1200)]
        self.assertEqual([sizes.count(size) for size in (64, 594, 1518)], [700, 400, 100])

    def test_latency_streams_have_room_for_what_trex_writes(self) -> None:
        for name in profiles.STATELESS:
            probes = [stream for stream in load(name, "--probes", "50") if stream.flow_stats]
            self.assertEqual([(probe.mode.pps, probe.flow_stats.pg_id) for probe in probes], [(50, 7)])
            frame = next(frame for frame in sent(name) if frame.client[0] == plan.PROBE)
            self.assertGreaterEqual(len(frame.payload), 16)
            # TRex changes the payload of each and no checksum.
            self.assertEqual(frame.ip[26:28], b"\0\0")
            self.assertEqual([stream for stream in load(name, "--probes", "0") if stream.flow_stats], [])

    def test_a_size_that_no_frame_has_is_refused(self) -> None:
        for tunables in (["--size", "63"], ["--size", "1519"], ["--flows", "0"]):
            with self.assertRaises(SystemExit), open(os.devnull, "w") as sink:
                stderr, sys.stderr = sys.stderr, sink
                try:
                    load("stl_udp", *tunables)
                finally:
                    sys.stderr = stderr


class Judge(unittest.TestCase):
    """That a frame is judged at all."""

    def test_the_checksum_is_rfc_1071s(self) -> None:
        self.assertEqual(checksum(bytes.fromhex("0001f203f4f5f6f7")), ~0xDDF2 & 0xFFFF)
        header = bytes.fromhex("45000073000040004011b861c0a80001c0a800c7")
        self.assertEqual(checksum(header), 0)
        self.assertEqual(checksum(header[:10] + bytes(2) + header[12:]), 0xB861)

    def test_every_byte_that_a_checksum_covers_is_noticed(self) -> None:
        good = sent("stl_syn", "--probes", "0", count=1)[0].data
        for place in range(14, len(good)):
            bad = bytearray(good)
            bad[place] ^= 0x10
            with self.assertRaises(Malformed, msg=f"byte {place}"):
                Frame.read(bytes(bad))

    def test_a_syn_whose_padding_counts_as_data_is_noticed(self) -> None:
        good = sent("stl_syn", "--probes", "0", count=1)[0]
        longer = bytearray(good.data)
        longer[16:18] = (46).to_bytes(2, "big")
        longer[24:26] = bytes(2)
        longer[24:26] = checksum(bytes(longer[14:34])).to_bytes(2, "big")
        with self.assertRaisesRegex(Malformed, "TCP checksum"):
            Frame.read(bytes(longer))


class Servers(unittest.TestCase):
    def test_trex_sends_to_the_director_as_the_plan_says(self) -> None:
        for name in ("pci", "veth"):
            with open(os.path.join(profiles.HERE, "server", name + ".yaml")) as file:
                found = re.findall(r'(dest|src)_mac: "([0-9a-f:]+)"', file.read())
            pairs = zip(plan.DIRECTOR_MACS, plan.TREX_MACS)
            self.assertEqual(found, [end for to, own in pairs for end in (("dest", to), ("src", own))], name)


class Stateful(unittest.TestCase):
    def test_clients_ask_the_vip_and_any_server_answers(self) -> None:
        for name in profiles.STATEFUL:
            profile = load(name)
            clients, servers = profile.templates.client_template, profile.templates.server_template
            self.assertEqual(clients.ip_gen.dist_client.ip_range, list(plan.TALKING_CLIENTS))
            self.assertEqual(clients.ip_gen.dist_server.ip_range, [plan.VIP, plan.VIP])
            self.assertEqual((clients.port, servers.assoc.port), (plan.HTTP_PORT, plan.HTTP_PORT))

    def test_both_ends_finish_what_they_began(self) -> None:
        sizes = {"astf_http_throughput": ["--body", "5000000"], "astf_http_concurrent": ["--requests", "3"]}
        for name in profiles.STATEFUL:
            profile = load(name, *sizes.get(name, []))
            client, server = profile.templates.client_template.program, profile.templates.server_template.program
            self.assertEqual(converse(client, server), (0, 0), name)

    def test_concurrent_connections_are_kept_at_their_number(self) -> None:
        clients = load("astf_http_concurrent", "--flows", "5000").templates.client_template
        self.assertEqual((clients.limit, clients.cont), (5000, True))
        steps = clients.program.steps
        self.assertEqual([argument for step, argument in steps if step == "delay"], [5_000_000])


def converse(client, server) -> tuple[int, int]:
    """Runs both ends against each other. Bytes that neither waited for, or an AssertionError when both wait."""
    unread, place, left = [0, 0], [0, 0], [{}, {}]
    programs = (client, server)
    while any(place[end] < len(programs[end].steps) for end in (0, 1)):
        moved = False
        for end in (0, 1):
            while place[end] < len(programs[end].steps):
                step, argument = programs[end].steps[place[end]]
                if step == "recv" and unread[end] < argument:
                    break
                place[end] += 1
                moved = True
                if step == "recv":
                    unread[end] -= argument
                elif step == "send":
                    unread[1 - end] += argument
                elif step == "set":
                    left[end][argument[0]] = argument[1]
                elif step == "jump":
                    left[end][argument[0]] -= 1
                    place[end] = argument[1] if left[end][argument[0]] else place[end]
        assert moved, f"both wait: client at step {place[0]}, server at step {place[1]}, unread {unread}"
    return unread[0], unread[1]


TREX_HOME = os.environ.get("TREX_HOME", "")


@unittest.skipUnless(TREX_HOME, "TREX_HOME is not set: not held against TRex itself")
class ByTrex(unittest.TestCase):
    """TRex's simulators load every profile, and make of it what the stand-in made."""

    def simulate(self, module: str, name: str, *tunables: str) -> Any:
        interface = os.path.join(TREX_HOME, "automation", "trex_control_plane", "interactive")
        environment = {**os.environ, "PYTHONPATH": interface, "PYTHONWARNINGS": "ignore"}
        command = [sys.executable, "-m", module, "-p", TREX_HOME, "--json", "-f", profiles.path(name)]
        tried = subprocess.run(command + list(tunables), env=environment, cwd=TREX_HOME, text=True, capture_output=True)
        try:
            return json.loads(tried.stdout)
        except ValueError:
            self.fail(f"{module} does not load {name}:\n{tried.stdout}{tried.stderr}")

    def test_streams(self) -> None:
        for name in profiles.STATELESS:
            theirs = self.simulate("trex.stl.trex_stl_sim", name, "-t", "size=100,flows=500")
            ours = [stream.to_json() for stream in load(name, "--size", "100", "--flows", "500")]
            self.assertEqual(len(theirs), len(ours))
            for their, our in zip(theirs, ours):
                self.assertEqual(mac_free(part(their, our)), mac_free(our), f"{name}: {our['name']}")

    def test_conversations(self) -> None:
        for name in profiles.STATEFUL:
            theirs = self.simulate("trex.astf.sim", name)
            client = load(name).templates.client_template
            template = theirs["templates"][0]["client_template"]
            self.assertEqual((template["port"], template["cps"]), (client.port, client.cps))
            self.assertEqual(template.get("limit"), client.limit)
            ranges = [(pool["ip_start"], pool["ip_end"]) for pool in theirs["ip_gen_dist_list"]]
            self.assertEqual(ranges, [plan.TALKING_CLIENTS, (plan.VIP, plan.VIP)])


def part(whole, shape):
    """What of `whole` has a place in `shape`: TRex may say more than the stand-in knows."""
    if isinstance(shape, dict):
        return {key: part(whole[key], value) for key, value in shape.items() if key in whole}
    if isinstance(shape, list) and len(shape) == len(whole):
        return [part(*pair) for pair in zip(whole, shape)]
    return whole


def mac_free(stream: dict) -> dict:
    """A stream whose packet begins behind the MAC addresses, which are TRex's to fill in."""
    # 16 digits of base64 are 12 bytes.
    return {**stream, "packet": {"binary": stream["packet"]["binary"][16:]}}


if __name__ == "__main__":
    unittest.main()
