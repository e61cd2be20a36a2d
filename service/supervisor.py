"""The loop that drives jobs from their log: look, record, decide, launch, stop.

It keeps nothing that matters between two rounds: a service that was killed goes on from the log.
One supervisor works on a database at a time: the one that holds the lease. It names the lease's
term with all that it records, and looks before each effect on the executor whether it still holds
the lease, for it may have slept since it decided.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from projections.consequences import next_decision
from projections.decide import Command, Enqueue, Observe, Tick, decide
from projections.events import Evidence
from projections.job import JobState, JobStatus
from projections.sighting import Alive, Gone, Sighting, Unreachable, Unseen
from service.errors import FencedError, ServiceError, StoreUnavailableError
from service.executor import ExecutorUnavailableError, Launch, LaunchRefusedError
from service.instance import Instance
from service.launching import trainer_environment
from service.lease import Lease
from service.redaction import redact
from service.senses import Attempt

ROUND_SECONDS = 0.5
OUTAGE_SECONDS = 2.0
LAST_WORDS_LINES = 20
LAST_WORDS_WIDTH = 500
MESSAGE_WIDTH = 300

# How our own trainer's log lines begin: time, level, trace.
_PREFIX = re.compile(r"^\S+ [A-Z]+ \[TRACE:[^]]*\] ")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Supervisor:
    """Looks after every job that is not over."""

    instance: Instance
    service_url: str
    """Where trainers call back."""
    _lease: Lease = field(default_factory=lambda: Lease(term=0))
    """The right to supervise, of the term that we are in or were in last."""
    _met: set[Attempt] = field(default_factory=set)
    """The attempts that this process has launched or taken over."""
    _told: set[Attempt] = field(default_factory=set)
    """The attempts that were asked to end."""

    async def run(self) -> None:
        """Make rounds until cancelled, whenever no other service does; no error ends them."""
        while True:
            try:
                async with self.instance.candidate.leading() as self._lease:
                    await self._lead()
            except FencedError:
                log.warning("leads_no_more", term=self._lease.term)
            except StoreUnavailableError:
                self.instance.log.senses.deaf()
            except Exception:
                log.exception("round_failed")
            self._met.clear()
            self.instance.log.senses.forget_all_but(set())
            await asyncio.sleep(OUTAGE_SECONDS)

    async def _lead(self) -> None:
        """Make rounds until the lease is lost; an outage that it outlasts only delays them."""
        while True:
            self._lease.check()
            try:
                await self.round()
            except StoreUnavailableError:
                self.instance.log.senses.deaf()
            await asyncio.sleep(ROUND_SECONDS)

    async def round(self) -> None:
        """Look at every watched job once."""
        jobs = await self.instance.store.watched()
        now = jobs[0].now if jobs else await self.instance.store.now()
        self.instance.log.senses.hears(now)
        self._forget_all_but({job.state.id for job in jobs})
        for job in jobs:
            try:
                await self._look_after(job.state, job.now)
            except (StoreUnavailableError, FencedError):
                raise
            except ServiceError as error:
                log.warning("job_skipped", job_id=job.state.id, error=error.detail)
            except Exception:
                # One job that cannot be looked after must not keep the others waiting.
                log.exception("job_skipped", job_id=job.state.id)

    def _forget_all_but(self, job_ids: set[int]) -> None:
        self.instance.log.senses.forget_all_but(job_ids)
        self._met = {attempt for attempt in self._met if attempt[0] in job_ids}
        self._told = {attempt for attempt in self._told if attempt[0] in job_ids}

    async def _look_after(self, state: JobState, now: datetime) -> None:
        state = await self._release(state, now)
        state = await self._observe(state, now)
        state = await self._stop(state, now)
        if state.status.is_final:
            return
        moment = self.instance.log.senses.moment_of(state, now)
        if next_decision(state, moment, self.instance.policy) is not None:
            state = await self._record(state, Tick())
        if self._is_due(state, now):
            await self._launch(state, now)

    async def _record(self, state: JobState, command: Command) -> JobState:
        """Record the command where it says something new, and return the state after it."""
        if not isinstance(command, Tick) and not decide(state, command):
            return state
        return (await self.instance.log.handle(state.id, command, self._lease.term)).state

    def _is_elsewhere(self, place: str | None) -> bool:
        """Return whether an attempt runs where our executor cannot see it, nor end it."""
        return place is not None and place != self.instance.executor.place

    async def _release(self, state: JobState, now: datetime) -> JobState:
        """See an earlier attempt off whose process outlived the decision on it."""
        attempt = state.releasing
        if attempt is None or self._is_elsewhere(state.releasing_place):
            return state
        seen = await self.instance.executor.observe(state.id, attempt)
        if isinstance(seen, Alive) and state.attempt_queued_at is not None:
            await self._end((state.id, attempt), _seconds(state.attempt_queued_at, now))
        return await self._record(state, Observe(attempt=attempt, sighting=seen))

    async def _observe(self, state: JobState, now: datetime) -> JobState:
        if state.executor is None or state.exit is not None:
            return state
        attempt = (state.id, state.attempt)
        seen = await self._seen(state)
        adopting = attempt not in self._met and state.status is JobStatus.RUNNING
        seen, evidence = await self._with_last_words(state, seen)
        self._note_reach(attempt, seen, now)
        command = Observe(
            attempt=state.attempt, sighting=seen, adopting=adopting, evidence=evidence
        )
        state = await self._record(state, command)
        self._met.add(attempt)
        return state

    async def _seen(self, state: JobState) -> Sighting:
        if self._is_elsewhere(state.place):
            return Unreachable(message=f"Only a service that can reach {state.place} sees it.")
        seen = await self.instance.executor.observe(state.id, state.attempt)
        if isinstance(seen, Unseen) and not state.status.is_final:
            return await self._unseen(state)
        return seen

    async def _with_last_words(
        self, state: JobState, seen: Sighting
    ) -> tuple[Sighting, Evidence | None]:
        """Keep what a process printed last before it ended badly: its log may be gone tomorrow."""
        explained = state.result is not None or state.stop is not None
        if not isinstance(seen, Gone) or seen.exit_code == 0 or seen.refused or explained:
            return seen, None
        try:
            text = await self.instance.executor.logs(state.id, state.attempt, LAST_WORDS_LINES)
        except ExecutorUnavailableError as error:
            text = f"Its output cannot be read: {error}"
        spoken = redact(text or "")[0].splitlines()  # what is recorded can never be taken back
        lines = [line[:LAST_WORDS_WIDTH] for line in spoken if line.strip()]
        if not lines:
            return seen, None
        evidence = Evidence(kind="log_tail", data={"lines": [_storable(line) for line in lines]})
        if seen.signal is not None:  # whatever it was doing then is not the reason
            return seen, evidence
        said = _PREFIX.sub("", _storable(lines[-1]))[:MESSAGE_WIDTH]
        return replace(seen, message=seen.message or said), evidence

    def _note_reach(self, attempt: Attempt, seen: Sighting, now: datetime) -> None:
        senses = self.instance.log.senses
        match seen:
            case Unreachable():
                senses.cannot_look(attempt)
            case Alive():
                senses.sees(attempt, now)
            case Gone() | Unseen():
                senses.can_look(attempt)

    async def _unseen(self, state: JobState) -> Sighting:
        """Start what was to be started and never was; what ran before and is not there is gone."""
        if state.status is JobStatus.RUNNING:
            return Gone(message="Nothing of the attempt is there any more.")
        if state.cancel is not None or state.stop is not None:
            return Gone(message="The attempt was never started.")
        return await self._start(state)

    async def _stop(self, state: JobState, now: datetime) -> JobState:
        """Carry out a stop that was decided, or end a process that outlives its job."""
        if state.exit is not None or state.executor is None or self._is_elsewhere(state.place):
            return state
        attempt = (state.id, state.attempt)
        if state.stop is not None:
            await self._end(attempt, _seconds(state.stop.at, now), at_once=True)
        elif state.completed_at is not None:
            await self._end(attempt, _seconds(state.completed_at, now))
        return state

    async def _end(self, attempt: Attempt, waited: float, *, at_once: bool = False) -> None:
        """Ask an attempt to end after the grace (or at once), and force it a grace later."""
        grace = self.instance.policy.stop_grace
        ask_after = 0.0 if at_once else grace
        force = waited >= ask_after + grace
        # A second SIGTERM would mean more than the first; a second SIGKILL does not.
        if waited < ask_after or (attempt in self._told and not force):
            return
        job_id, number = attempt
        self._lease.check()
        log.warning("stopping", job_id=job_id, attempt=number, force=force)
        await self.instance.executor.stop(job_id, number, force=force)
        self._told.add(attempt)

    def _is_due(self, state: JobState, now: datetime) -> bool:
        """Return whether the current attempt is to be started and is not asked for yet."""
        if state.status not in (JobStatus.PENDING, JobStatus.QUEUED) or state.executor is not None:
            return False
        waiting = state.cancel is None and state.releasing is None and state.attempt_queued_at
        return bool(waiting) and _seconds(state.attempt_queued_at, now) >= state.retry_delay

    async def _launch(self, state: JobState, now: datetime) -> None:
        executor = self.instance.executor
        if executor.name == "external":
            message = "The job waits for somebody to start its trainer with a callback token."
            await self._enqueue(state, "waiting_for_trainer", message)
        elif await executor.free_slots() == 0:
            message = f"All slots of the {executor.name} executor are taken."
            await self._enqueue(state, "waiting_for_slot", message)
        else:
            message = f"The {executor.name} executor was asked to start attempt {state.attempt}."
            state = await self._enqueue(state, "submitted", message, asked=True)
            self._met.add((state.id, state.attempt))
            await self._observe(state, now)

    async def _enqueue(
        self, state: JobState, reason: str, message: str, *, asked: bool = False
    ) -> JobState:
        executor = self.instance.executor
        command = Enqueue(
            attempt=state.attempt,
            reason=reason,
            message=message,
            executor=executor.name if asked else None,
            place=executor.place if asked else None,
        )
        return await self._record(state, command)

    async def _start(self, state: JobState) -> Sighting:
        """Have the executor start the attempt, and look; it starts once however often asked."""
        issued = self.instance.callback_tokens.issue(state.id, state.attempt)
        environment = trainer_environment(
            state, self.instance.settings, token=issued.token, service_url=self.service_url
        )
        launch = Launch(job_id=state.id, attempt=state.attempt, environment=environment)
        self._lease.check()
        try:
            await self.instance.executor.launch(launch)
        except LaunchRefusedError as error:
            return Gone(refused=True, message=str(error))
        except ExecutorUnavailableError as error:
            log.warning("executor_unavailable", job_id=state.id, error=str(error))
            return Unreachable(message=str(error))
        return await self.instance.executor.observe(state.id, state.attempt)


def _storable(text: str) -> str:
    """Return text that PostgreSQL's jsonb takes: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _seconds(start: datetime | None, end: datetime) -> float:
    return (end - start).total_seconds() if start else 0.0
