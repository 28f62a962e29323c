"""Fulcrum's programs, as the tests run them: `fulcrum` once, a director for as long as a test lasts."""

from __future__ import annotations

import json
import os
import subprocess
import time
import unittest
from typing import Any, Callable, Optional

from kit import profiles
from kit.director import Counters

PROGRAMS = os.environ.get("FULCRUM_PROGRAMS", "")
MODES = ("nat", "fullnat", "dr", "tun")

needed = unittest.skipUnless(PROGRAMS, "FULCRUM_PROGRAMS does not say where the programs are: run `make trex-check`")


def program(name: str) -> str:
    return os.path.join(PROGRAMS, name)


def configuration(mode: str) -> str:
    """The director's file of that mode."""
    return os.path.join(profiles.HERE, "director", mode + ".toml")


def fulcrum(*arguments: str) -> str:
    """Runs it, which must succeed, and returns what it printed."""
    done = subprocess.run([program("fulcrum"), *arguments], text=True, capture_output=True)
    assert done.returncode == 0, f"fulcrum {' '.join(arguments)}: {done.stderr}"
    return done.stdout


class Director:
    """Both daemons on one configuration, without root and without huge pages; everything in one directory."""

    def __init__(self, directory: str, configuration: str) -> None:
        self.socket = os.path.join(directory, "control.sock")
        self.processes: list[subprocess.Popen] = []
        self.logs: list[str] = []
        file = os.path.join(directory, "fulcrum.toml")
        with open(file, "w") as config:
            config.write(configuration)
        for name in ("fulcrum-dataplane", "fulcrum-control"):
            self.logs.append(os.path.join(directory, name + ".log"))
            with open(self.logs[-1], "w") as log:
                command = [program(name), "--config", file]
                self.processes.append(subprocess.Popen(command, stderr=log, stdout=log, stdin=subprocess.DEVNULL))

    def __enter__(self) -> Director:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends both, control first, and lets the data plane finish its files."""
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def status(self) -> Optional[dict[str, Any]]:
        """`fulcrum status --json`; nothing as long as control does not answer."""
        command = [program("fulcrum"), "--socket", self.socket, "status", "--json"]
        done = subprocess.run(command, text=True, capture_output=True)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait(self, what: str, fact: Callable[[Counters, dict[str, Any]], bool], seconds: float = 60) -> Counters:
        """The counters when a fact about them and the status holds."""
        end, last = time.monotonic() + seconds, None
        while time.monotonic() < end:
            for process, log in zip(self.processes, self.logs):
                assert process.poll() is None, f"it has ended:\n{open(log).read()}"
            last = self.status()
            if last and last.get("dataplane"):
                counters = Counters.read(last)
                if fact(counters, last):
                    return counters
            time.sleep(0.05)
        raise AssertionError(f"no {what} in {seconds} s; the status is {last}; " + open(self.logs[0]).read())

    def wait_programmed(self) -> Counters:
        """Until every worker runs the configuration."""

        def programmed(_: Counters, status: dict[str, Any]) -> bool:
            dataplane = status["dataplane"]
            return bool(status["link"]["in_sync"] and dataplane["acknowledged"] == dataplane["generation"] > 0)

        return self.wait("programmed data plane", programmed)
