#!/usr/bin/env python3
"""Finds the highest rates at which a director loses nothing (NDR) and no more than a share (PDR), with a TRex.

    TREX_HOME=/opt/trex/v3.08 tests/trex/run.py udp-64 --profile stl_udp \\
        --fulcrum "ssh root@director fulcrum" -- --size 64 --flows 1000000

writes udp-64.json and udp-64.md. What comes after `--` are the profile's tunables. docs/trex.md tells the rest."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from kit import generator, profiles, report
from kit.director import Remote
from kit.search import Range, Result, Trial, search


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(usage="%(prog)s OUTPUT [options] [-- tunables]", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("output", help="what the results are called, without .json and .md")
    parser.add_argument("--profile", required=True, choices=[*profiles.STATELESS, *profiles.STATEFUL])
    parser.add_argument("--trex-home", default=os.environ.get("TREX_HOME", ""), help="where TRex is [TREX_HOME]")
    parser.add_argument("--server", default="127.0.0.1", help="where its server runs, with -i (--astf for astf_*)")
    parser.add_argument("--fulcrum", help="command line of the director's `fulcrum`: loss is told by its reasons")
    parser.add_argument("--seconds", type=float, default=30, help="length of a trial [30]")
    parser.add_argument("--warm-up", type=float, default=10, help="seconds at the lowest rate beforehand [10]")
    parser.add_argument("--lowest", type=float, help="packets a second, or multiplier [a hundredth of the highest]")
    parser.add_argument("--highest", type=float, help="the same [line rate; multipliers: needed]")
    parser.add_argument("--precision", type=float, default=0.01, help="of the result, as a share [0.01]")
    parser.add_argument("--ndr", type=float, default=0.0, help="loss that counts as none, as a share [0]")
    parser.add_argument("--pdr", type=float, default=0.001, help="loss that is put up with, as a share [0.001]")
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options = parser.parse_args(sys.argv[1:end])
    options.tunables = sys.argv[end + 1 :]
    if not options.trex_home:
        parser.error("where is TRex? Give --trex-home or TREX_HOME")
    if not 0 <= options.ndr <= options.pdr < 1:
        parser.error("--ndr and --pdr are shares from 0 on and below 1, --ndr not the larger")
    if options.profile in profiles.STATEFUL and not options.highest:
        parser.error(f"{options.profile} needs --highest, a multiplier")
    if options.seconds <= 0 or options.warm_up < 0:
        parser.error("--seconds is more than 0, --warm-up not less")
    return options


@dataclass
class Measurement:
    """What is known so far."""

    conditions: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)

    def make(self, options: argparse.Namespace) -> None:
        """Searches. Raises `ValueError`, and what TRex raises."""
        stateless = options.profile in profiles.STATELESS
        director = Remote(options.fulcrum) if options.fulcrum else None
        described = director.describe() if director else "not asked"
        kind = generator.Stateless if stateless else generator.Stateful
        profile, count = profiles.path(options.profile), director.counters if director else None
        trex = kind.connect(options.server, profile, options.tunables, options.seconds, count)
        try:
            highest = options.highest or trex.line_rate()
            lowest = options.lowest or (highest / 100 if stateless else max(1, highest // 100))
            within = Range(lowest, highest, options.precision, step=0 if stateless else 1)
            self.conditions = {
                "profile": " ".join([options.profile, *options.tunables]),
                "unit": "packets a second" if stateless else "multiplier",
                "begun": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "trex": trex.version(),
                "director": described,
                "seconds": options.seconds,
                "from": round(lowest),
                "to": round(highest),
                "precision": options.precision,
            }
            if options.warm_up:
                trex.seconds = options.warm_up
                trex.offer(lowest)
                trex.seconds = options.seconds

            def offer(rate: float) -> Trial:
                trial = trex.offer(rate)
                print(f"{report.amount(rate):>14}  lost {trial.lost} of {trial.sent}  {trial.places or ''}", flush=True)
                return trial

            for name, tolerance in (("NDR", options.ndr), ("PDR", options.pdr)):
                self.results[name] = search(offer, within, tolerance, self.trials)
        finally:
            trex.close()

    def write(self, output: str) -> None:
        for ending, text in ((".json", report.to_json), (".md", report.to_markdown)):
            with open(output + ending, "w") as file:
                file.write(text(self.conditions, self.results, self.trials))


def main() -> None:
    options = arguments()
    try:
        TRexError = generator.interface(options.trex_home)
    except (ValueError, ImportError) as error:
        sys.exit(f"run.py: {error}")
    measurement = Measurement()
    try:
        measurement.make(options)
    except (ValueError, TRexError) as error:
        sys.exit(f"run.py: {error}")
    finally:
        # Also when it ends early: trials are long.
        if measurement.trials:
            measurement.write(options.output)
    for name, result in measurement.results.items():
        print(f"{name}  {report.amount(result.rate)} {measurement.conditions['unit']} ({result.limit})")


if __name__ == "__main__":
    main()
