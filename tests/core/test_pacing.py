"""When devices that check in are told to come back: laws of the pace, over simulated hours."""

import heapq
import random

import pytest

from umbel.coordinators import Pace, ServerConfig, arrivals_per_s
from umbel.errors import ConfigError


def config(**more):
    return ServerConfig(
        **{"arrivals": True, "round_timeout": 60.0, "fraction_evaluate": 0.0, "min_fit_clients": 10, **more}
    )


def check_ins(devices, per_s, hours, *, least_s=1.0, most_s=86400.0, window_s=7200.0):
    """The times at which devices that do as they are told check in; all come within the first minute."""
    rng = random.Random(5)
    pace = Pace(least_s, most_s, window_s)
    due = [(rng.uniform(0, 60), number) for number in range(devices)]
    heapq.heapify(due)
    before, times = {}, []
    while due[0][0] < 3600 * hours:
        now_s, device = heapq.heappop(due)
        pace.checked_in(now_s, now_s - before[device] if device in before else None)
        before[device] = now_s
        times.append(now_s)
        heapq.heappush(due, (now_s + pace.come_back_s(now_s, per_s, rng), device))
    return times, pace


@pytest.mark.parametrize("devices", [100, 3000])
def test_devices_come_at_the_rate_that_the_runs_can_use(devices):
    times, pace = check_ins(devices, 1.0, 6)
    late = [time for time in times if time > 3 * 3600]
    assert len(late) / (3 * 3600) == pytest.approx(1.0, rel=0.15)
    assert pace.population(6 * 3600) == pytest.approx(devices, rel=0.15)


def test_devices_that_began_together_are_spread():
    times, _ = check_ins(3000, 1.0, 6)
    by_minute = [0] * 360
    for time in times:
        by_minute[int(time // 60)] += 1
    late = by_minute[180:]
    assert max(late) < 2 * sum(late) / len(late)


def test_the_longest_pause_bounds_every_pause():
    rng = random.Random(1)
    pace = Pace(2.0, 100.0)
    for _ in range(100_000):
        pace.checked_in(1.0)
    assert all(50 <= pace.come_back_s(1.0, 0.1, rng) <= 150 for _ in range(100))
    assert all(1 <= pace.come_back_s(1.0, 1e9, rng) <= 3 for _ in range(100))


def test_without_a_run_devices_stay_away_for_the_longest():
    assert Pace(1.0, 100.0).come_back_s(0.0, 0.0, random.Random(1)) >= 50


def test_a_device_cannot_make_itself_many():
    pace = Pace(1.0, 100.0)
    pace.checked_in(0.0)
    pace.checked_in(200.0, 1e300)
    pace.checked_in(200.0, -5.0)
    assert pace.population(200.0) <= 2


def test_a_round_wants_its_devices_well_before_its_deadline():
    assert arrivals_per_s(config(over_selection=0.5)) == 2 * 15 / 60
    assert arrivals_per_s(ServerConfig()) == 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"round_timeout": None}, "round_timeout"),
        ({"fraction_fit": 0.5}, "fraction_fit"),
        ({"fraction_evaluate": 1.0}, "fraction_evaluate"),
        ({"min_available_clients": 5}, "min_available_clients"),
        ({"arrivals": "yes"}, "arrivals"),
    ],
)
def test_what_makes_no_sense_with_arrivals_is_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        config(**wrong)
