"""What an executor can see of an attempt's process or pod."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which object of a cluster was seen, and in which of its versions."""

    uid: str
    """Of what was made for the attempt; names are given away again, uids never."""
    handle: str
    """Names it for a person, such as `Job train-7`."""
    pod: str | None = None
    """The uid of the pod that is meant, where there is or was one."""
    version: str = ""
    """Tells one look from another: two that saw the same need to be told once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """Nothing of this attempt was ever there, or the executor cannot look (`external`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What was made for the attempt is there, and its pod does not run yet."""

    reason: str | None
    """A stable code; None where it is on its way and nothing is worth telling."""
    message: str = ""
    sent_back: bool = False
    """It ran perhaps, and no pod of it does any more: it was suspended, or its next is refused."""
    identity: Identity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """The process or pod is there."""

    handle: str
    """Names it for a person, such as `pid 4711` or `pod train-7-x2k`."""
    since: datetime | None
    """When it started, by the clock of the machine it runs on, where that is known."""
    identity: Identity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The pod is being ended, or has ended and its Job has not said so yet."""

    reason: str | None
    """A stable code; None where nothing is worth telling."""
    message: str = ""
    handle: str | None = None
    identity: Identity | None = None


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
    cause: str | None = None
    """What ended it, where that is known: a `Cause`."""
    node: str | None = None
    """The machine it ran on, where that is not ours."""
    identity: Identity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreachable:
    """The executor could not look: this says nothing about the process."""

    message: str


Sighting = Unseen | Waiting | Alive | Ending | Gone | Unreachable
