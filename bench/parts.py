"""The parts of the benchmark: who is measured beside whom."""

from __future__ import annotations

from bench import floors, ours
from bench.contender import Part

BARE_32, BARE_128 = floors.bare_post(32), floors.bare_post(128)
OURS_32, OURS_128 = ours.heartbeats(32), ours.heartbeats(128)
OURS_50 = ours.callbacks(50, 32)

CALLBACKS = Part(
    "callbacks",
    "how fast callbacks are recorded, against the floors",
    (floors.SINGLE_INSERTS, floors.BATCHED_INSERTS, BARE_32, OURS_32, BARE_128, OURS_128, OURS_50),
    (
        (OURS_32.name, BARE_32.name),
        (OURS_128.name, BARE_128.name),
        (OURS_32.name, floors.SINGLE_INSERTS.name),
        (OURS_128.name, floors.SINGLE_INSERTS.name),
        (OURS_50.name, floors.BATCHED_INSERTS.name),
    ),
)

PARTS = (CALLBACKS,)
