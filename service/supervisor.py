"""The loop that drives jobs from their log: look, record, decide, launch, stop.

It keeps nothing that matters between two rounds: a service that was killed goes on from the log.
Only one supervisor may run on a database at a time.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from datetime import datetime

import structlog

from projections.consequences import next_decision
from projections.decide import Command, Enqueue, Observe, Tick, decide
from projections.events import Evidence
from projections.job import JobState, JobStatus
from projections.sighting import Alive, Gone, Sighting, Unreachable, Unseen
from service.errors import ServiceError, StoreUnavailableError
from service.executor import ExecutorUnavailableError, Launch, LaunchRefusedError
from service.instance import Instance
from service.launching import trainer_environment

ROUND_SECONDS = 0.5
OUTAGE_SECONDS = 2.0
LAST_WORDS_LINES = 20
LAST_WORDS_WIDTH = 500
MESSAGE_WIDTH = 300

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Supervisor:
    """Looks after every job that is not over."""

    instance: Instance
    service_url: str
    """Where trainers call back."""
    _met: set[tuple[int, int]] = field(default_factory=set)
    """The attempts that this process has launched or taken over."""
    _told: set[tuple[int, int, bool]] = field(default_factory=set)
    """The stops that were sent: job, attempt, forced."""
    _last_round: float = field(default_factory=time.monotonic)

    async def run(self) -> None:
        """Make rounds until cancelled; no error ends them."""
        while True:
            pause = ROUND_SECONDS
            try:
                await self.round()
            except StoreUnavailableError:
                self.instance.log.deaf()
                pause = OUTAGE_SECONDS
            except Exception:
                log.exception("round_failed")
                pause = OUTAGE_SECONDS
            await asyncio.sleep(pause)

    async def round(self) -> None:
        """Look at every watched job once."""
        self._notice_a_pause()
        jobs = await self.instance.store.watched()
        now = jobs[0].now if jobs else await self.instance.store.now()
        self.instance.log.hears(now)
        self._forget_all_but({job.state.id for job in jobs})
        for job in jobs:
            try:
                await self._look_after(job.state, job.now)
            except StoreUnavailableError:
                raise
            except ServiceError as error:
                log.warning("job_skipped", job_id=job.state.id, error=error.detail)
            except Exception:
                # One job that cannot be looked after must not keep the others waiting.
                log.exception("job_skipped", job_id=job.state.id)

    def _forget_all_but(self, job_ids: set[int]) -> None:
        self.instance.log.forget_all_but(job_ids)
        self._met = {attempt for attempt in self._met if attempt[0] in job_ids}
        self._told = {order for order in self._told if order[0] in job_ids}

    def _notice_a_pause(self) -> None:
        """Callbacks were missed while this process stood still, so silence proves nothing."""
        before, self._last_round = self._last_round, time.monotonic()
        if self._last_round - before > self.instance.policy.heartbeat_timeout / 2:
            self.instance.log.deaf()

    async def _look_after(self, state: JobState, now: datetime) -> None:
        state = await self._release(state, now)
        state = await self._observe(state, now)
        state = await self._stop(state, now)
        if state.status.is_final:
            return
        moment = self.instance.log.moment_of(state.id, now)
        if next_decision(state, moment, self.instance.policy) is not None:
            state = await self._record(state, Tick())
        if self._is_due(state, now):
            await self._launch(state)

    async def _record(self, state: JobState, command: Command) -> JobState:
        """Record the command where it says something new, and return the state after it."""
        if not isinstance(command, Tick) and not decide(state, command):
            return state
        outcome = await self.instance.log.handle(state.id, command)
        for record in outcome.records:
            log.info(
                "recorded",
                type=record.type,
                job_id=record.job_id,
                attempt=record.attempt,
                position=record.position,
                trace_id=record.trace_id,
            )
        return outcome.state

    async def _release(self, state: JobState, now: datetime) -> JobState:
        """See an earlier attempt off whose process outlived the decision on it."""
        attempt = state.releasing
        if attempt is None:
            return state
        seen = await self.instance.executor.observe(state.id, attempt)
        if isinstance(seen, Alive) and state.attempt_queued_at is not None:
            await self._end(state, attempt, _seconds(state.attempt_queued_at, now))
        return await self._record(state, Observe(attempt=attempt, sighting=seen))

    async def _observe(self, state: JobState, now: datetime) -> JobState:
        if state.executor != self.instance.executor.name or state.exit is not None:
            return state
        seen = await self.instance.executor.observe(state.id, state.attempt)
        self._note_reach(state, seen, now)
        if isinstance(seen, Unseen) and not state.status.is_final:
            seen = await self._unseen(state)
        known = (state.id, state.attempt) in self._met
        self._met.add((state.id, state.attempt))
        adopting = not known and state.status is JobStatus.RUNNING
        seen, evidence = await self._with_last_words(state, seen)
        command = Observe(
            attempt=state.attempt, sighting=seen, adopting=adopting, evidence=evidence
        )
        return await self._record(state, command)

    async def _with_last_words(
        self, state: JobState, seen: Sighting
    ) -> tuple[Sighting, Evidence | None]:
        """Keep what a process printed last before it ended badly: its log may be gone tomorrow."""
        if not isinstance(seen, Gone) or seen.exit_code == 0 or seen.refused:
            return seen, None
        text = await self.instance.executor.logs(state.id, state.attempt, LAST_WORDS_LINES)
        lines = [line[:LAST_WORDS_WIDTH] for line in (text or "").splitlines() if line.strip()]
        if not lines:
            return seen, None
        evidence = Evidence(kind="log_tail", data={"lines": [_storable(line) for line in lines]})
        message = seen.message or _storable(lines[-1])[:MESSAGE_WIDTH]
        return replace(seen, message=message), evidence

    def _note_reach(self, state: JobState, seen: Sighting, now: datetime) -> None:
        unreachable = self.instance.log.unreachable
        if isinstance(seen, Unreachable):
            unreachable.add(state.id)
        else:
            unreachable.discard(state.id)
        if isinstance(seen, Alive):
            self.instance.log.last_seen[state.id] = now

    async def _unseen(self, state: JobState) -> Sighting:
        """Start what was to be started and never was; what ran before and is not there is gone."""
        if state.status is JobStatus.RUNNING:
            return Gone(message="Nothing of the attempt is there any more.")
        if state.cancel is not None or state.stop is not None:
            return Gone(message="The attempt was never started.")
        return await self._start(state)

    async def _stop(self, state: JobState, now: datetime) -> JobState:
        """Carry out a stop that was decided, or end a process that outlives its job."""
        if state.exit is not None or state.executor is None:
            return state
        if state.stop is not None:
            await self._end(state, state.attempt, _seconds(state.stop.at, now), at_once=True)
        elif state.completed_at is not None:
            await self._end(state, state.attempt, _seconds(state.completed_at, now))
        return state

    async def _end(
        self, state: JobState, attempt: int, waited: float, *, at_once: bool = False
    ) -> None:
        """Ask an attempt to end after the grace (or at once), and force it a grace later."""
        grace = self.instance.policy.stop_grace
        ask_after = 0.0 if at_once else grace
        if waited < ask_after:
            return
        force = waited >= ask_after + grace
        order = (state.id, attempt, force)
        if order in self._told and not force:
            return  # a second SIGTERM would mean more than the first
        self._told.add(order)
        log.warning("stopping", job_id=state.id, attempt=attempt, force=force)
        await self.instance.executor.stop(state.id, attempt, force=force)

    def _is_due(self, state: JobState, now: datetime) -> bool:
        """Return whether the current attempt is to be started and is not asked for yet."""
        if state.status not in (JobStatus.PENDING, JobStatus.QUEUED) or state.executor is not None:
            return False
        waiting = state.cancel is None and state.releasing is None and state.attempt_queued_at
        return bool(waiting) and _seconds(state.attempt_queued_at, now) >= state.retry_delay

    async def _launch(self, state: JobState) -> None:
        executor = self.instance.executor
        if executor.name == "external":
            message = "The job waits for somebody to start its trainer with a callback token."
            await self._enqueue(state, "waiting_for_trainer", message)
        elif await executor.free_slots() == 0:
            message = f"All slots of the {executor.name} executor are taken."
            await self._enqueue(state, "waiting_for_slot", message)
        else:
            message = f"The {executor.name} executor was asked to start attempt {state.attempt}."
            state = await self._enqueue(state, "submitted", message, executor=executor.name)
            if state.executor == executor.name:
                await self._look_at_start(state)

    async def _enqueue(
        self, state: JobState, reason: str, message: str, *, executor: str | None = None
    ) -> JobState:
        command = Enqueue(attempt=state.attempt, reason=reason, message=message, executor=executor)
        return await self._record(state, command)

    async def _look_at_start(self, state: JobState) -> None:
        self._met.add((state.id, state.attempt))
        seen = await self._start(state)
        if isinstance(seen, Unseen):
            seen = await self.instance.executor.observe(state.id, state.attempt)
        await self._record(state, Observe(attempt=state.attempt, sighting=seen))

    async def _start(self, state: JobState) -> Sighting:
        """Ask the executor to start the attempt; it does so once however often it is asked."""
        issued = self.instance.callback_tokens.issue(state.id, state.attempt)
        environment = trainer_environment(
            state, self.instance.settings, token=issued.token, service_url=self.service_url
        )
        launch = Launch(job_id=state.id, attempt=state.attempt, environment=environment)
        try:
            await self.instance.executor.launch(launch)
        except LaunchRefusedError as error:
            return Gone(refused=True, message=str(error))
        except ExecutorUnavailableError as error:
            log.warning("executor_unavailable", job_id=state.id, error=str(error))
            return Unreachable(message=str(error))
        return Unseen()


def _storable(text: str) -> str:
    """Return text that PostgreSQL's jsonb takes: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _seconds(start: datetime | None, end: datetime) -> float:
    return (end - start).total_seconds() if start else 0.0
