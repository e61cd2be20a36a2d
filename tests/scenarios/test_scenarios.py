"""Every row of the scenario table, as it happened and in every other way it may be seen."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from projections.events import Adopted, AttemptFailed, Done
from tests.scenarios.by_hand import BY_HAND
from tests.scenarios.by_itself import BY_ITSELF
from tests.scenarios.controllers import CONTROLLERS
from tests.scenarios.hard_cases import HARD_CASES
from tests.scenarios.kubelets import KUBELETS
from tests.scenarios.pains import PAINS
from tests.scenarios.replay import Replay
from tests.scenarios.row import QUIET, Row, told
from tests.scenarios.tape import STEP
from tests.scenarios.world import World

TABLE = (*HARD_CASES, *PAINS, *BY_HAND, *BY_ITSELF, *CONTROLLERS, *KUBELETS)
ORDERS = 40
AWAY = 20

every_row = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)


def happened(row: Row) -> World:
    """The row as it happens, with the service looking on."""
    world = World(retries=row.retries, policy=row.policy, body=row.body, skew=row.skew)
    row.script(world)
    world.flush()
    return world


def replayed(world: World, *, views: int = 1) -> Replay:
    return Replay(world.tape, world.created, world.policy, views=views)


def lines(replay: Replay) -> list[str]:
    return [told(one) for one in replay.log.records if not isinstance(one.event, QUIET)]


def end_of(replay: Replay) -> dict[str, object]:
    state = replay.log.state
    failures = [
        (one.event.reason, one.event.failure_class)
        for one in replay.log.records
        if isinstance(one.event, AttemptFailed) and one.rule is None
    ]
    return {
        "status": state.status.value,
        # A training that runs was seen alive first, or called back first: both is true.
        "reason": state.status != "running" and state.reason.code,
        "attempts": (state.attempt, state.retry_count, state.interruptions),
        "failures": failures,
        "left": state.holds_resources,
    }


def check_nothing_twice(replay: Replay) -> None:
    """No event has another's id, and nothing is said again that was just said."""
    ids = [record.event_id for record in replay.log.records]
    assert len(ids) == len(set(ids)), lines(replay)
    again = [
        told(one)
        for one, other in pairwise(replay.log.records)
        if told(one) == told(other) and not isinstance(one.event, QUIET | Adopted | Done)
    ]
    assert again == [], lines(replay)


def check_end(row: Row, way: str, replay: Replay, usual: Replay) -> None:
    check_nothing_twice(replay)
    end, expected = end_of(replay), end_of(usual)
    if way.split(maxsplit=1)[0] in row.differs:
        del end["attempts"], end["failures"], expected["attempts"], expected["failures"]
    assert end == expected, (way, " ".join(lines(replay)), " ".join(lines(usual)))


@every_row
def test_it_ends_as_the_table_says(row: Row) -> None:
    replay = happened(row).replay
    log, explained = replay.log, replay.log.explained()

    assert lines(replay) == row.events.split()
    assert (log.status, log.reason) == (row.status, row.reason)
    assert row.says in log.state.reason.message
    assert explained.rule == row.rule
    assert [one.type for one in explained.because] == row.because.split()
    assert log.health.verdict == row.health
    if row.attempts is not None:
        assert end_of(replay)["attempts"] == row.attempts
    check_nothing_twice(replay)


@every_row
def test_any_legal_order_of_delivery_ends_alike(row: Row) -> None:
    world = happened(row)

    for seed in range(ORDERS):
        replay = replayed(world)
        for act in world.tape.merged(random.Random(seed)):  # noqa: S311
            act.do(replay)
        check_end(row, f"order {seed}", replay, world.replay)


@every_row
def test_a_restart_of_the_watcher_anywhere_ends_alike(row: Row) -> None:
    world = happened(row)

    for cut in moments(world):
        replay = replayed(world)
        for number, act in enumerate(world.tape.acts):
            act.do(replay)
            if number == cut:
                replay.restart()
        check_end(row, f"restart after {cut}", replay, world.replay)


def moments(world: World) -> Iterator[int]:
    """Every act, but for the steps that follow another: between two nothing happens but time."""
    for number, (before, act) in enumerate(pairwise(world.tape.acts), start=1):
        if act.stream != STEP or before.stream != STEP:
            yield number


@every_row
def test_a_watch_that_was_cut_and_lists_again_ends_alike(row: Row) -> None:
    world = happened(row)

    for first, last in gaps(world):
        replay = replayed(world)
        for number, act in enumerate(world.tape.acts):
            replay.withheld = replay.withheld or number == first
            act.do(replay)
            if number == last:
                replay.restart()
        check_end(row, f"away from {first} to {last}", replay, world.replay)


def gaps(world: World) -> Iterator[tuple[int, int]]:
    """Some gaps in the watch, none of them over a step: those are what the service itself did."""
    number, chance = 0, random.Random(7)  # noqa: S311
    for stretch in world.tape.stretches():
        if len(stretch) > 1:
            for _ in range(AWAY):
                first, last = sorted(chance.sample(range(len(stretch)), 2))
                yield number + first, number + last
        number += len(stretch)


@every_row
@pytest.mark.parametrize("views", [1, 2], ids=["one watcher", "two watchers"])
def test_everything_delivered_twice_and_out_of_date_is_recorded_once(row: Row, views: int) -> None:
    world = happened(row)
    replay = replayed(world, views=views)
    replay.again = 2

    for act in world.tape.acts:
        act.do(replay)

    assert lines(replay) == lines(world.replay)
    check_end(row, "twice", replay, world.replay)
