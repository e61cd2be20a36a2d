"""Rolling heartbeats up: which events of a job must stay, and what stands for the others.

A heartbeat may go where neither the story nor the status tells of it. A run of such heartbeats
becomes one `heartbeats` event in the place of its last one, if every fold takes the two for the
same; where it does not, the run is split until it does.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from projections.events import Heartbeat, Heartbeats, Record
from projections.job import JobState, stands_alike
from projections.progress import Stretch, completed_epoch
from projections.status import evolve, fold
from projections.timeline import Story

LONGEST_RUN = 1000
"""Heartbeats in one roll-up: a trainer that names no epoch is not to become a single row."""


@dataclass(slots=True)
class Roller:
    """Rolls up one job: add its events in order, from the first; collect the roll-ups."""

    running: Collection[int] = ()
    """The attempts that may still go on: their heartbeats stay."""
    waiting: int = 0
    """How many heartbeats stay only because of that."""
    story: Story = field(default_factory=Story)
    _before: JobState = field(default_factory=JobState)
    """The state before the run that is being collected."""
    _run: list[Record] = field(default_factory=list)

    def pass_by(self, record: Record) -> None:
        """Take an event that comes before the range to be rolled up."""
        self.story.add(record)

    def add(self, record: Record) -> list[Record]:
        """Take the next event; return the roll-ups of the run that it ends, if it ends one."""
        before, told = self.story.state, len(self.story.entries)
        self.story.add(record)
        plain = isinstance(record.event, Heartbeat) and record.rule is None
        silent = len(self.story.entries) == told and stands_alike(before, self.story.state)
        if not (plain and silent):
            return self._ended(before)
        if record.attempt in self.running:
            self.waiting += 1
            return self._ended(before)
        ready = [] if self._goes_on(record) else self._ended(before)
        if not self._run:
            self._before = before
        self._run.append(record)
        return ready

    def finish(self) -> list[Record]:
        """Return the roll-ups of the last run: the range ends here."""
        return self._ended(self.story.state)

    def _goes_on(self, record: Record) -> bool:
        """Return whether the event continues the run, in the same way as those before it."""
        if not self._run or len(self._run) == LONGEST_RUN:
            return False
        last = self._run[-1]
        return record.version == last.version + 1 and _manner(record) == _manner(last)

    def _ended(self, after: JobState) -> list[Record]:
        run, self._run = self._run, []
        return _rollups(self._before, run, after)


def known_within(record: Record, moment: datetime) -> Record:
    """Return what a roll-up tells of a moment within its run: the training went on like that.

    When exactly its last heartbeat before the moment came is not known any more; the earliest that
    it may have come is.
    """
    event = record.event
    assert isinstance(event, Heartbeats)  # noqa: S101 - for the type checker
    first = datetime.fromisoformat(event.first_at)
    heard = max(first, moment - timedelta(seconds=event.max_gap_seconds))
    text = _text(heard)
    told = Heartbeats(
        from_version=event.from_version,
        from_position=event.from_position,
        count=1,
        first_at=event.first_at,
        last_at=text,
        min_gap_seconds=event.min_gap_seconds,
        max_gap_seconds=event.max_gap_seconds,
        advanced_at=text if event.advanced_at else None,
        progress=0.0,  # says nothing new: progress never goes back
    )
    return replace(
        record,
        version=event.from_version,
        position=event.from_position,
        occurred_at=heard,
        recorded_at=heard,
        event=told,
        stored=None,
    )


def reaches_back(record: Record, position: int, moment: datetime) -> bool:
    """Return whether the event is a roll-up whose run had begun at this position or moment.

    What began behind the position may have been recorded at the same moment, but not before it.
    """
    match record.event:
        case Heartbeats(from_position=begun, first_at=first_at):
            return begun <= position or datetime.fromisoformat(first_at) < moment
        case _:
            return False


def _rollups(before: JobState, run: Sequence[Record], after: JobState) -> list[Record]:
    """Return roll-ups that lead from the one state to the other, as the run does."""
    if len(run) < 2:
        return []
    whole = _rolled_up(run, before, after)
    if evolve(before, whole) == after:
        return [whole]
    middle = len(run) // 2
    between = fold(run[:middle], before)
    return [
        *_rollups(before, run[:middle], between),
        *_rollups(between, run[middle:], after),
    ]


def _rolled_up(run: Sequence[Record], before: JobState, after: JobState) -> Record:
    beats = [record.event for record in run if isinstance(record.event, Heartbeat)]
    furthest = max(beats, key=lambda beat: -1 if beat.batch is None else beat.batch)
    said = [beat.progress for beat in beats if beat.progress is not None]
    gaps = [(b.recorded_at - a.recorded_at).total_seconds() for a, b in pairwise(run)]
    advanced = after.advanced_at if after.advanced_at != before.advanced_at else None
    event = Heartbeats(
        from_version=run[0].version,
        from_position=run[0].position,
        count=len(run),
        first_at=_text(run[0].recorded_at),
        last_at=_text(run[-1].recorded_at),
        min_gap_seconds=min(gaps),
        max_gap_seconds=max(gaps),
        seqs=_stretches({record.seq for record in run if record.seq is not None}),
        advanced_at=_text(advanced) if advanced else None,
        epoch=beats[0].epoch,
        epochs=next((beat.epochs for beat in reversed(beats) if beat.epochs), None),
        progress=max(said, default=None),
        batch=furthest.batch,
        batches=furthest.batches,
        metrics={name: value for beat in beats for name, value in beat.metrics.items()},
        gpu=next((beat.gpu for beat in reversed(beats) if beat.gpu), {}),
    )
    return replace(run[-1], event=event, stored=None)


def _manner(record: Record) -> tuple[object, ...]:
    """Return what the heartbeats of one run have in common."""
    beat = record.event
    assert isinstance(beat, Heartbeat)  # noqa: S101 - for the type checker
    says = beat.batch is None, completed_epoch(beat), beat.progress is None
    return (record.attempt, record.source, beat.epoch, *says)


def _stretches(numbers: set[int]) -> tuple[Stretch, ...]:
    stretches: list[Stretch] = []
    for number in sorted(numbers):
        if stretches and number == stretches[-1][1] + 1:
            stretches[-1] = (stretches[-1][0], number)
        else:
            stretches.append((number, number))
    return tuple(stretches)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
