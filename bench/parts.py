"""The parts of the benchmark: who is measured beside whom."""

from __future__ import annotations

from bench import (
    as_of,
    eventsourcing_peer,
    floors,
    growth,
    kubernetes,
    message_db,
    mlflow_server,
    ours,
    outbox,
)
from bench import replay as replaying
from bench import stream as streaming
from bench.contender import Compare, Part

BARE_32, BARE_128 = floors.bare_post(32), floors.bare_post(128)
OURS_32, OURS_128 = ours.heartbeats(32), ours.heartbeats(128)
OURS_50 = ours.callbacks(50, 32)

CALLBACKS = Part(
    "callbacks",
    "how fast callbacks are recorded, against the floors",
    (floors.SINGLE_INSERTS, floors.BATCHED_INSERTS, BARE_32, OURS_32, BARE_128, OURS_128, OURS_50),
    (
        Compare(OURS_32, BARE_32),
        Compare(OURS_128, BARE_128),
        Compare(OURS_32, floors.SINGLE_INSERTS),
        Compare(OURS_128, floors.SINGLE_INSERTS),
        Compare(OURS_50, floors.BATCHED_INSERTS),
    ),
)

_PEERS = (
    mlflow_server.LOG_METRIC,
    message_db.WRITE_MESSAGE,
    eventsourcing_peer.PLAIN,
    eventsourcing_peer.WITH_FUNCTIONS,
)
PEERS = Part(
    "peers",
    "the same, against what others offer",
    (OURS_32, *_PEERS),
    tuple(Compare(OURS_32, peer) for peer in _PEERS),
)

REPLAY = Part(
    "replay",
    "from 1,000,000 events of 2,000 jobs to each job's status",
    (replaying.SQL_ALONE, replaying.EVENTSOURCING, replaying.STATUSES, replaying.OURS),
    (
        Compare(replaying.STATUSES, replaying.SQL_ALONE),
        Compare(replaying.STATUSES, replaying.EVENTSOURCING),
        Compare(replaying.OURS, replaying.SQL_ALONE),
        Compare(replaying.OURS, replaying.EVENTSOURCING),
    ),
)

AS_OF = Part(
    "as-of",
    "where one job of 450 to 550 events, or the fleet of 1,000,000, stood at a position",
    (as_of.JOB_FLOOR, as_of.JOB, as_of.FLEET_FLOOR, as_of.FLEET),
    (Compare(as_of.JOB, as_of.JOB_FLOOR), Compare(as_of.FLEET, as_of.FLEET_FLOOR)),
)

STREAM = Part(
    "stream",
    "how soon subscribers hear of an event, at 1,000 events a second",
    (streaming.BARE, streaming.OURS),
    (
        Compare(streaming.OURS, streaming.BARE, "p50_ms"),
        Compare(streaming.OURS, streaming.BARE, "p99_ms"),
    ),
)

GROWTH = Part(
    "growth",
    "what a larger log costs",
    (*growth.CALLBACKS, *growth.AS_OF),
    (
        *(Compare(one, growth.CALLBACKS[0]) for one in growth.CALLBACKS[1:]),
        *(Compare(one, growth.AS_OF[0]) for one in growth.AS_OF[1:]),
    ),
)

KUBERNETES = Part(
    "kubernetes",
    f"{kubernetes.JOBS:,} running Jobs on a cluster of the tests",
    (
        kubernetes.REST,
        kubernetes.PASS,
        kubernetes.STIRRED,
        kubernetes.RUNNING,
        kubernetes.EXITED,
    ),
    (),
)

OUTBOX = Part(
    "outbox",
    f"{outbox.ITEMS:,} callbacks that waited on a trainer's disk, in requests of 500",
    (outbox.KEPT, outbox.BARE, outbox.DRAINED),
    (Compare(outbox.DRAINED, outbox.BARE),),
)

PARTS = (CALLBACKS, PEERS, REPLAY, AS_OF, STREAM, GROWTH, KUBERNETES, OUTBOX)
