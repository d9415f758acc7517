"""When a server is asked, when it is left alone, and for how long."""

from tableforge.cache.breaker import FAILURES, FIRST_PAUSE, HELD_SECONDS, LAST_PAUSE, Breaker


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def closed(clock: Clock) -> Breaker:
    breaker = Breaker(clock=clock, chance=lambda _, high: high)
    breaker.probe()
    breaker.close()
    return breaker


def test_nothing_is_asked_before_a_probe_was_answered() -> None:
    breaker = Breaker()
    seen = [(breaker.state, breaker.is_closed)]
    assert breaker.pause() == 0
    breaker.probe()
    seen.append((breaker.state, breaker.is_closed))
    breaker.close()
    seen.append((breaker.state, breaker.is_closed))
    assert seen == [("open", False), ("half-open", False), ("closed", True)]
    assert (breaker.opened, breaker.probes) == (0, 1)


def test_ca7_failures_in_a_row_open_it_and_single_ones_do_not() -> None:
    breaker = closed(Clock())
    for _ in range(10):
        for _ in range(FAILURES - 1):
            assert not breaker.fail("slow")
        breaker.succeed()
    assert breaker.is_closed
    told = [breaker.fail("slow") for _ in range(FAILURES + 3)]
    assert told == [False] * (FAILURES - 1) + [True] + [False] * 3
    assert (breaker.state, breaker.trouble, breaker.opened) == ("open", "slow", 1)
    assert breaker.failures == 10 * (FAILURES - 1) + FAILURES + 3


def test_ca7_pauses_grow_to_a_bound_and_begin_anew_after_it_held() -> None:
    clock = Clock()
    breaker = closed(clock)
    breaker.trip("gone")
    pauses = [breaker.pause()]
    for _ in range(10):
        breaker.probe()
        breaker.trip("gone")
        pauses.append(breaker.pause())
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LAST_PAUSE
    breaker.probe()
    breaker.close()
    clock.now += HELD_SECONDS / 2
    breaker.trip("flaps")
    assert breaker.pause() == LAST_PAUSE
    breaker.probe()
    breaker.close()
    clock.now += HELD_SECONDS
    breaker.trip("gone")
    assert breaker.pause() == FIRST_PAUSE
    assert breaker.opened == 3


def test_ca7_instances_of_a_fleet_do_not_come_back_together() -> None:
    breaker = Breaker()
    breaker.trip("gone")
    pauses = {breaker.pause() for _ in range(50)}
    assert len(pauses) > 40
    assert all(FIRST_PAUSE / 2 <= pause <= FIRST_PAUSE for pause in pauses)
