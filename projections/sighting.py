"""What an executor can see of an attempt's process or pod."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """Nothing of this attempt was ever there, or the executor cannot look (`external`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """The process or pod is there."""

    handle: str
    """Names it for a person, such as `pid 4711` or `pod train-7-x2k`."""
    since: datetime
    """When it started, by the clock of the machine it runs on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """The process or pod was there and is no more."""

    exit_code: int | None = None
    """What the process itself answered; None when a signal ended it or nobody saw its end."""
    signal: int | None = None
    """The signal that ended it, if one did."""
    machine_lost: bool = False
    """The machine restarted or vanished under it: no fault of the training."""
    refused: bool = False
    """The executor will never start it; `message` says why."""
    message: str = ""
    at: datetime | None = field(default=None, compare=False)
    """When it ended, by the clock of the machine it ran on, where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """The executor could not look: this says nothing about the process."""

    message: str


Sighting = Unseen | Alive | Gone | Unreachable
