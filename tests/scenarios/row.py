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
    spec: Mapping[str, Any] = field(default_factory=dict)
    differs: Mapping[str, str] = field(default_factory=dict)
    """Ways of replaying after which the end may be another one, each with the reason why."""


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
