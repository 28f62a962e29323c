#!/usr/bin/env python3
"""How long `ipvsadm -R` of many services takes until the data plane runs them.

Starts both programs of a release build on a port in memory, without huge pages, in a folder of their own; restores,
and waits until `fulcrum status` shows every worker at the wanted generation. No root is needed."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """
[dataplane]
lcores = "{lcores}"
hugepages = "off"
sessions = 65536
idle = "adaptive"
[[port]]
name = "port"
device = "net_ring0"
[[interface]]
name = "net"
port = "port"
addresses = ["10.0.0.1/8"]
"""


def lines(services, servers, apart):
    """The restore: servers behind their service, or all behind all services."""
    address = lambda net, n: f"10.{net + n // 62500}.{n // 250 % 250}.{n % 250 + 1}"
    vip = lambda n: f"-t {address(64, n)}:80"
    server = lambda n, m: f"-a {vip(n)} -r {address(128, n * servers + m)}:80 -m"
    of = lambda n: [server(n, m) for m in range(servers)]
    made = [(f"-A {vip(n)} -s wlc", of(n)) for n in range(services)]
    if apart:
        return [service for service, _ in made] + [one for _, all_of in made for one in all_of]
    return [line for service, all_of in made for line in (service, *all_of)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, default=Path("target/release"), help="folder of the programs")
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--servers", type=int, default=10, help="of each service")
    parser.add_argument("--apart", action="store_true", help="servers behind all services")
    parser.add_argument("--lcores", default="1")
    args = parser.parse_args()
    program = lambda name: str(args.programs / name)
    with tempfile.TemporaryDirectory() as folder:
        path = lambda name: os.path.join(folder, name)
        Path(path("fulcrum.toml")).write_text(CONFIG.format(lcores=args.lcores))
        config = ["--config", path("fulcrum.toml")]
        started = []

        def start(name, *more):
            with open(path(f"{name}.log"), "w") as log:
                command = [program(name), *config, *more]
                started.append(subprocess.Popen(command, stdout=log, stderr=log))

        def reconciled(services):
            asked = [program("fulcrum"), "--socket", path("control.sock"), "--json", "status"]
            answer = subprocess.run(asked, capture_output=True, text=True)
            if answer.returncode != 0:
                return False
            status = json.loads(answer.stdout)
            link, dataplane = status["link"], status["dataplane"] or {}
            generations = {link["generation"], dataplane.get("generation"), dataplane.get("acknowledged")}
            return link["in_sync"] and len(generations) == 1 and status["control"]["services"] == services

        def wait(services, seconds=60):
            end = time.monotonic() + seconds
            while not reconciled(services):
                if time.monotonic() > end or any(process.poll() is not None for process in started):
                    logs = [Path(path(f"{name}.log")).read_text() for name in ("fulcrum-dataplane", "fulcrum-control")]
                    sys.exit("not reconciled:\n" + "\n".join(logs))
                time.sleep(0.01)

        try:
            start("fulcrum-dataplane", "--socket", path("dataplane.sock"))
            ends = ["--socket", path("control.sock"), "--dataplane", path("dataplane.sock")]
            start("fulcrum-control", *ends, "--state", path("state.toml"))
            wait(0)
            text = "\n".join(lines(args.services, args.servers, args.apart)) + "\n"
            environment = {**os.environ, "FULCRUM_SOCKET": path("control.sock")}
            begin = time.monotonic()
            subprocess.run([program("fulcrum"), "ipvsadm", "-R"], input=text, text=True, env=environment, check=True)
            restored = time.monotonic() - begin
            wait(args.services)
            whole = time.monotonic() - begin
        finally:
            for process in started:
                process.send_signal(signal.SIGTERM)
            for process in started:
                process.wait()
    print(f"{args.services} services of {args.servers} servers: restored after {restored:.2f} s, reconciled after {whole:.2f} s")


if __name__ == "__main__":
    main()
