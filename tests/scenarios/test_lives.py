"""Whatever happens: nothing is recorded twice, nobody is forgotten, and success stays success."""

from __future__ import annotations

import random

import pytest

from projections.decide import directive
from tests.scenarios.lives import lives
from tests.scenarios.replay import Replay
from tests.scenarios.test_scenarios import check_nothing_twice, lines, moments, replayed
from tests.scenarios.world import World

LIVES = range(120)


@pytest.mark.parametrize("seed", LIVES)
def test_any_life_seen_in_any_way_comes_to_the_same_sort_of_end(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    world = World(retries=chance.choice((0, 3)))
    happened = lives(world, chance)
    seen = [world.replay, in_another_order(world, chance), restarted(world, chance)]

    for replay in seen:
        check_nothing_twice(replay)
        assert sort_of_end(replay) == sort_of_end(world.replay), (happened, lines(replay))
    for views in (1, 2):
        assert lines(delivered_twice(world, views)) == lines(world.replay), happened


def in_another_order(world: World, chance: random.Random) -> Replay:
    replay = replayed(world)
    for act in world.tape.merged(chance):
        act.do(replay)
    return replay


def restarted(world: World, chance: random.Random) -> Replay:
    replay, cut = replayed(world), chance.choice(list(moments(world)))
    for number, act in enumerate(world.tape.acts):
        act.do(replay)
        if number == cut:
            replay.restart()
    return replay


def delivered_twice(world: World, views: int) -> Replay:
    replay = replayed(world, views=views)
    replay.again = 2
    for act in world.tape.acts:
        act.do(replay)
    return replay


def sort_of_end(replay: Replay) -> tuple[object, ...]:
    """How it ended; of two causes that came within a moment, either may be the first."""
    state = replay.log.state
    if not state.status.is_final:
        return ("goes on", state.attempt)
    return (state.status, state.holds_resources, directive(state, state.attempt))
