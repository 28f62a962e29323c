"""The search, against devices that are only arithmetic: what it finds, how often it asks, what it says of it."""

from __future__ import annotations

import math
import random
import unittest

from kit.search import Range, Trial, search


class Device:
    """Forwards up to a capacity and loses the rest, beside a share that it always loses."""

    def __init__(self, capacity: float, always: float = 0.0, generator: float = math.inf) -> None:
        self.capacity, self.always, self.generator = capacity, always, generator
        self.asked: list[float] = []

    def __call__(self, rate: float) -> Trial:
        self.asked.append(rate)
        sent = min(rate, self.generator) * 10
        lost = max(sent - self.capacity * 10, 0) + sent * self.always
        return Trial(asked=rate, rate=sent / 10, sent=round(sent), lost=round(lost))


WITHIN = Range(lowest=1e4, highest=14.88e6, precision=0.005)


class Search(unittest.TestCase):
    def test_it_finds_the_capacity_of_any_device(self) -> None:
        chance = random.Random(1)
        for _ in range(500):
            capacity = math.exp(chance.uniform(math.log(2e4), math.log(14e6)))
            device = Device(capacity)
            found = search(device, WITHIN, 0, [])
            self.assertLessEqual(found.rate, capacity)
            self.assertGreaterEqual(found.rate, capacity * (1 - 0.0051))
            self.assertEqual(found.limit, "more is lost")
            self.assertEqual(found.best.lost, 0)
            self.assertGreater(found.worse.lost, 0)
            self.assertLessEqual(len(device.asked), 22)
            self.assertEqual(len(set(device.asked)), len(device.asked), "no rate is tried twice")

    def test_a_tolerance_finds_the_rate_with_that_loss(self) -> None:
        for tolerance in (0.001, 0.01, 0.2):
            found = search(Device(1e6), WITHIN, tolerance, [])
            exact = 1e6 / (1 - tolerance)
            self.assertLessEqual(found.best.loss, tolerance)
            self.assertGreaterEqual(found.rate, exact * (1 - 0.0051))

    def test_a_second_search_uses_the_trials_of_the_first(self) -> None:
        device, trials = Device(3e6), []
        ndr = search(device, WITHIN, 0, trials)
        first = len(device.asked)
        pdr = search(device, WITHIN, 0.001, trials)
        self.assertGreaterEqual(pdr.rate, ndr.rate)
        self.assertLessEqual(len(device.asked) - first, 2)
        self.assertEqual([trial.asked for trial in trials], device.asked)

    def test_line_rate_is_one_trial(self) -> None:
        device = Device(1e9)
        found = search(device, WITHIN, 0, [])
        self.assertEqual((device.asked, found.rate), ([14.88e6], 14.88e6))
        self.assertEqual(found.limit, "the highest rate was good")

    def test_a_device_that_always_loses_has_a_pdr_and_no_ndr(self) -> None:
        trials = []
        ndr = search(Device(1e6, always=0.0005), WITHIN, 0, trials)
        self.assertEqual((ndr.best, ndr.limit), (None, "more is lost even at the lowest rate"))
        self.assertEqual(len(trials), 2)
        pdr = search(Device(1e6, always=0.0005), WITHIN, 0.001, trials)
        self.assertAlmostEqual(pdr.rate / 1e6, 1, delta=0.006)

    def test_a_generator_that_cannot_is_not_taken_for_the_device(self) -> None:
        found = search(Device(1e9, generator=5e6), WITHIN, 0, [])
        self.assertAlmostEqual(found.rate / 5e6, 1, delta=0.012)
        self.assertEqual(found.limit, "the generator cannot send more")

    def test_multipliers_are_whole(self) -> None:
        for capacity in (1, 2, 3, 7.5, 41, 999.9, 5000):
            device = Device(capacity)
            found = search(device, Range(1, 5000, 0.001, step=1), 0, [])
            self.assertTrue(all(rate == int(rate) for rate in device.asked), device.asked)
            self.assertGreaterEqual(found.best.asked, math.floor(capacity) - 1 - capacity * 0.001)
            self.assertLessEqual(found.best.asked, capacity)

    def test_a_loss_below_counts_more_than_luck_above(self) -> None:
        lucky = [Trial(8e6, 8e6, 100, 0), Trial(4e6, 4e6, 100, 7), Trial(14.88e6, 14.88e6, 100, 50)]
        self.assertLess(search(Device(2e6), WITHIN, 0, lucky).rate, 4e6)

    def test_nothing_sent_is_no_success(self) -> None:
        found = search(lambda rate: Trial(rate, 0, 0, 0), WITHIN, 0.5, [])
        self.assertIsNone(found.best)

    def test_a_range_that_is_none_is_refused(self) -> None:
        for lowest, highest, precision in ((0, 1, 0.1), (2, 1, 0.1), (1, 2, 0), (1, 2, 1)):
            with self.assertRaises(ValueError):
                Range(lowest, highest, precision)


if __name__ == "__main__":
    unittest.main()
