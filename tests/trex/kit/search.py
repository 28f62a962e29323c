"""The highest rate at which no more than a share of the packets is lost (RFC 2544, section 26.1), by halving.

With a share of 0 that is the no-drop rate (NDR), with more a partial-drop rate (PDR)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional

SHORT = 0.99
"""A generator that sends less than this of what it was asked for has come to its own limit."""


@dataclass(frozen=True)
class Trial:
    """What came of offering one rate for a time."""

    asked: float
    """Packets a second; of a stateful profile its multiplier."""
    rate: float
    """What was offered indeed."""
    sent: int
    lost: int
    places: dict[str, int] = field(default_factory=dict)
    """Where the lost ones stayed."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What else was measured: latency, connections."""

    @property
    def loss(self) -> float:
        """The share that was lost; all of it when nothing was sent."""
        return self.lost / self.sent if self.sent else 1.0

    @property
    def short(self) -> bool:
        """Whether the generator did not manage."""
        return self.rate < SHORT * self.asked


@dataclass(frozen=True)
class Result:
    """What a search has found."""

    tolerance: float
    best: Optional[Trial]
    """At the highest rate that was good; none when even the lowest was not."""
    worse: Optional[Trial]
    """At the lowest rate that was not good; none when all were."""

    @property
    def rate(self) -> float:
        """The rate that was found; 0 when none was good."""
        return self.best.rate if self.best else 0.0

    @property
    def limit(self) -> str:
        """Why it is not more."""
        if self.best is None:
            return "more is lost even at the lowest rate"
        if self.worse is None:
            return "the highest rate was good"
        return "the generator cannot send more" if self.worse.short else "more is lost"


@dataclass(frozen=True)
class Range:
    """Where to search, and how closely."""

    lowest: float
    highest: float
    precision: float = 0.01
    """Of the result, as a share of it."""
    step: float = 0.0
    """Rates are multiples of it; 0: any."""

    def __post_init__(self) -> None:
        if not 0 < self.lowest <= self.highest:
            raise ValueError(f"rates from {self.lowest} to {self.highest}: the first is above 0 and not the larger")
        if not 0 < self.precision < 1:
            raise ValueError(f"a precision of {self.precision}: it is a share between 0 and 1")

    def middle(self, good: float, bad: float) -> Optional[float]:
        """The next rate to try between a good and a bad one; none when they are close enough."""
        if bad - good <= max(self.precision * bad, self.step):
            return None
        middle = (good + bad) / 2
        return middle if not self.step else max(good + self.step, middle // self.step * self.step)


def search(offer: Callable[[float], Trial], within: Range, tolerance: float, trials: list[Trial]) -> Result:
    """Finds it. `trials` are those made so far, of this or another tolerance: what they tell is not tried again, and
    new ones are added. A rate counts as good when it was sent in full, or as far as the generator could, and no more
    than `tolerance` of it was lost; a loss at a lower rate outweighs a good trial at a higher one."""

    def good(trial: Trial) -> bool:
        return trial.loss <= tolerance

    def at(rate: float) -> Trial:
        known = [trial for trial in trials if trial.asked == rate]
        if not known:
            known = [offer(rate)]
            trials.extend(known)
        return known[0]

    top = at(within.highest)
    if good(top) and not top.short:
        return Result(tolerance, top, None)
    bottom = at(within.lowest)
    if not good(bottom):
        return Result(tolerance, None, bottom)
    best, worse = bottom, top
    for trial in sorted(trials, key=lambda trial: trial.asked):
        if not good(trial) or trial.short:
            worse = trial
            break
        best = trial
    while (rate := within.middle(best.asked, worse.asked)) is not None:
        trial = at(rate)
        if good(trial) and not trial.short:
            best = trial
        else:
            worse = trial
    return Result(tolerance, best, worse)
