"""A row of the scenario table, and how what was recorded is written in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from projections.events import AttemptFailed, Exited, Heartbeat, Record, Running, TrainerEvent
from projections.policy import Policy
from tests.given import POLICY
from tests.scenarios.world import World

Script = Callable[[World], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What happens, and what the log has to make of it."""

    name: str
    script: Script
    source: str
    """Where it comes from: a hard case or a pain by its number and name, or our own."""
    status: str
    reason: str
    events: str
    """The job's events in order: the type, and after a colon the reason, cause or class."""
    rule: str
    because: str = ""
    """The types of the events that decided the status, by `explain`."""
    says: str = ""
    """Part of the reason's message."""
    health: str = "not_running"
    retries: int = 3
    policy: Policy = POLICY
    attempts: tuple[int, int, int] | None = None
    """The number of the attempt, and what was charged to retries and to interruptions."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """What the Job's body has besides the usual: of its spec, its pod or its container."""
    skew: float = 0.0
    """By how many seconds the cluster's clock is ahead of ours."""
    differs: Mapping[str, str] = field(default_factory=dict)
    """Ways of replaying after which the end may be another one, each with the reason why."""


class Table(list[Row]):
    """Rows in the making: each is the function that lets it happen, under its name."""

    def row(self, source: str, **expected: Any) -> Callable[[Script], Script]:
        """Add the function as a row."""

        def add(script: Script) -> Script:
            name = script.__name__.strip("_").replace("_", " ")
            self.append(Row(name=name, source=source, script=script, **expected))
            return script

        return add


QUIET = Heartbeat | TrainerEvent


def told(record: Record) -> str:
    """The event in one word, such as `queued:unschedulable`."""
    event: Any = record.event
    words = [record.type]
    match event:
        case AttemptFailed():
            words += [event.reason, event.failure_class.value]
        case Exited():
            words += [event.cause or ("refused" if event.refused else str(event.exit_code))]
        case Running():
            pass
        case _:
            detail = getattr(event, "reason", None) or getattr(event, "verdict", None)
            words += [detail] if detail and record.type != "retry_scheduled" else []
    if record.rule is not None:
        words.append(f"({record.rule})")
    return ":".join(words)


# What the log says of the usual course of an attempt, up to there
LAUNCHED = "created queued:submitted launched queued:scheduling"
MADE = f"{LAUNCHED} queued:container_creating"
RUNS = f"{MADE} running"
AGAIN = "queued:submitted launched queued:scheduling"
"""The next attempt, once its time has come."""
RETRY = {
    "status": "queued",
    "reason": "retry_scheduled",
    "rule": "retry_within_budget",
    "because": "exited attempt_failed retry_scheduled",
}
SUCCESS = {
    "status": "succeeded",
    "reason": "done",
    "rule": "done_decides_success",
    "because": "done succeeded",
}
CANCELLED = {
    "status": "cancelled",
    "reason": "cancelled",
    "rule": "cancel_confirmed",
    "because": "cancel_requested exited cancelled",
}
TRAINS = {
    "status": "running",
    "reason": "seen_alive",
    "rule": "seen_running",
    "because": "running",
    "health": "healthy",
}
WAITS = {"status": "queued", "rule": "waiting", "because": "queued"}
UNSEEN = "the pod came to its end and was cleared away while nobody looked"


def runs(world: World) -> None:
    """The attempt's pod is scheduled and starts, and its trainer calls back."""
    world.schedule()
    world.start()
    world.heartbeat(epoch=1)
