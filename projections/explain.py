"""Why a job's status is what it is: the events that decided it, and those that did not count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from projections.events import (
    AttemptFailed,
    Cancelled,
    Done,
    Exited,
    Heartbeat,
    Heartbeats,
    Record,
    Succeeded,
    TrainerEvent,
)
from projections.exhibits import Exhibit, Exhibits
from projections.health import Health, Verdict, assess
from projections.job import JobState, JobStatus, Reason
from projections.policy import Moment, Policy
from projections.rules import SENTENCES, Rule
from projections.status import ruled, ruling
from projections.titles import detail_of, title_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Because:
    """An event that decided the status."""

    position: int
    type: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """An event that did not count, and the rule that set it aside."""

    position: int
    type: str
    rule: Rule
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Facts that contradict each other, and which of them holds."""

    positions: tuple[int, ...]
    verdict: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The status, the rule behind it, and every event for and against."""

    status: JobStatus
    reason: Reason
    rule: Rule
    rule_text: str
    because: Sequence[Because]
    ignored: Sequence[Ignored]
    conflicts: Sequence[Conflict]
    health: Health
    evidence: Sequence[Exhibit]


def explain(records: Iterable[Record], moment: Moment, policy: Policy) -> Explanation:
    """Return why the job stands where it does after these records, at this moment."""
    inquiry = Inquiry()
    for record in records:
        inquiry.add(record)
    return inquiry.finished(moment, policy)


class Inquiry:
    """An explanation in the making: add a job's records in order, then finish it."""

    def __init__(self) -> None:
        """Start before the first record."""
        self.state = JobState()
        self._kept: dict[int, Record] = {}
        self._ignored: list[Ignored] = []
        self._conflicts = _Conflicts()
        self._exhibits = Exhibits()

    def add(self, record: Record) -> None:
        """Take the next record."""
        rule = ruling(self.state, record)
        if rule is not None:
            self._ignored.append(_ignored(record, rule))
        self._note_overruled(record)
        self._conflicts.note(self.state, record, rule)
        before, self.state = self.state, ruled(self.state, record, rule)
        self._exhibits.note(before, record, self.state, counts=rule is None)
        routine = isinstance(record.event, Heartbeat | Heartbeats | TrainerEvent)
        if not routine or record.position in self.state.decided_by:
            self._kept[record.position] = record

    def _note_overruled(self, record: Record) -> None:
        """Note a success that was recorded as it came and then lost to a cancel."""
        result = self.state.result
        if isinstance(record.event, Cancelled) and result is not None and result.succeeded:
            done = self._kept[result.position]
            self._ignored.append(_ignored(done, Rule.CANCEL_WAS_HEARD))

    @property
    def set_aside(self) -> int:
        """How many records did not count so far."""
        return len(self._ignored)

    @property
    def contradictions(self) -> int:
        """How many conflicts were found so far."""
        return len(self._conflicts)

    def evidence(self, verdict: Verdict) -> list[Exhibit]:
        """Return what else speaks for how the job stands, with this verdict on its health."""
        return self._exhibits.found(self.state, verdict)

    def finished(self, moment: Moment, policy: Policy) -> Explanation:
        """Return the explanation of the records so far, at this moment."""
        state, health = self.state, assess(self.state, moment, policy)
        return Explanation(
            status=state.status,
            reason=state.reason,
            rule=state.rule,
            rule_text=SENTENCES[state.rule],
            because=[_because(self._kept[number]) for number in _deciding(state, self._kept)],
            ignored=self._ignored,
            conflicts=self._conflicts.found(state),
            health=health,
            evidence=self.evidence(health.verdict),
        )


def _deciding(state: JobState, kept: dict[int, Record]) -> list[int]:
    return sorted({position for position in state.decided_by if position in kept})


def _because(record: Record) -> Because:
    detail = detail_of(record)
    why = f"{title_of(record)}: {detail}" if detail else f"{title_of(record)}."
    return Because(position=record.position, type=record.type, why=why)


def _ignored(record: Record, rule: Rule) -> Ignored:
    return Ignored(position=record.position, type=record.type, rule=rule, why=SENTENCES[rule])


class _Conflicts:
    """Watches a job's records for facts that contradict each other."""

    def __init__(self) -> None:
        self._said: dict[int, tuple[int, str]] = {}  # attempt → its first `done`, and its word
        self._failed: dict[int, tuple[int, str]] = {}  # attempt → its failure, and the reason
        self._ended_badly: dict[int, tuple[int, str]] = {}  # attempt → its exit, in words
        self._pending: list[Conflict] = []

    def __len__(self) -> int:
        return len(self._pending)

    def note(self, before: JobState, record: Record, rule: Rule | None) -> None:
        match record.event:
            case Done() as event:
                self._note_done(before, record, event, rule)
            case Exited() as event if rule is None:
                self._note_exit(record, event)
            case AttemptFailed(reason=reason):
                first = self._failed.setdefault(record.attempt, (record.position, reason))
                if first[0] != record.position:
                    self._add((first[0], record.position), SENTENCES[Rule.FIRST_CAUSE_STAYS])
            case Succeeded(because=because) if before.cancel is not None:
                why = "Success was reported before the trainer heard of the cancel, so it holds."
                self._add((before.cancel.position, *because), why)
            case Cancelled() if before.result is not None and before.result.succeeded:
                positions = (before.result.position, record.position)
                self._add(positions, SENTENCES[Rule.CANCEL_WAS_HEARD])
            case _:
                pass

    def found(self, state: JobState) -> list[Conflict]:
        return [replace(conflict, verdict=state.status.value) for conflict in self._pending]

    def _note_done(self, before: JobState, record: Record, event: Done, rule: Rule | None) -> None:
        here, status = record.position, event.status
        first = self._said.setdefault(record.attempt, (here, status))
        failed = self._failed.get(record.attempt)
        exited = self._ended_badly.get(record.attempt)
        if first[1] != status:
            self._add((first[0], here), SENTENCES[Rule.ATTEMPT_IS_DONE])
        elif failed is not None and _another_cause(event, failed[1]):
            why = f"The attempt had failed before ({failed[1]}); the first cause holds."
            self._add((failed[0], here), why)
        elif rule is Rule.JOB_IS_FINAL and _contradicts(before.status, status):
            self._add((*before.decided_by[-1:], here), SENTENCES[rule])
        elif exited is not None and status == "succeeded":
            self._add((exited[0], here), f"{exited[1]}, but it reported success; the report holds.")

    def _note_exit(self, record: Record, event: Exited) -> None:
        if event.signal is None and event.exit_code in (0, None):
            return
        self._ended_badly[record.attempt] = (record.position, title_of(record))
        said = self._said.get(record.attempt)
        if said is not None and said[1] == "succeeded":
            why = f"{title_of(record)} after it had reported success; the report holds."
            self._add((said[0], record.position), why)

    def _add(self, positions: tuple[int, ...], why: str) -> None:
        self._pending.append(Conflict(positions=positions, verdict="", why=why))


def _another_cause(event: Done, reason: str) -> bool:
    """Return whether a late `done` says something else than why the attempt failed."""
    code = (event.error or {}).get("code")
    # An attempt that was stopped says that it was; that is no cause of its own.
    return event.status == "succeeded" or code not in (None, reason, "terminated", "cancelled")


def _contradicts(status: JobStatus, said: str) -> bool:
    """A cancelled attempt may well call itself failed."""
    return status != said and not (status is JobStatus.CANCELLED and said == "failed")
