"""What is done for one job at one look: see what became of its attempts, decide, launch, stop."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import structlog

from projections.consequences import next_decision
from projections.decide import Command, Enqueue, Observe, Tick, decide
from projections.job import JobState, JobStatus
from projections.sighting import Alive, Gone, Sighting, Unreachable, Unseen, Waiting
from service.executor import (
    ExecutorUnavailableError,
    Launch,
    LaunchHeldError,
    LaunchRefusedError,
)
from service.instance import Instance
from service.launching import trainer_environment
from service.lease import Lease
from service.resuming import resume_of
from service.senses import Attempt

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Attending:
    """Looks after jobs, one at a call, for as long as the lease holds."""

    instance: Instance
    service_url: str
    """Where trainers call back."""
    lease: Lease
    """The right to supervise, under whose term everything is recorded."""
    _met: set[Attempt] = field(default_factory=set)
    """The attempts that this process has launched or taken over."""
    _completed: set[Attempt] = field(default_factory=set)
    """The attempts that were launched once more for what they lacked."""
    _told: set[Attempt] = field(default_factory=set)
    """The attempts that were asked to end."""

    def forget_all_but(self, job_ids: set[int]) -> None:
        """Drop what is known of other jobs."""
        self._completed = {attempt for attempt in self._completed if attempt[0] in job_ids}
        self._met = {attempt for attempt in self._met if attempt[0] in job_ids}
        self._told = {attempt for attempt in self._told if attempt[0] in job_ids}

    async def look_after(self, state: JobState, now: datetime) -> JobState:
        """Do what is due for a job that stood so a moment ago, and return how it stands."""
        state = await self._release(state, now)
        state = await self._observe(state, now)
        state = await self._stop(state, now)
        if state.status.is_final:
            return state
        moment = self.instance.log.senses.moment_of(state, now)
        if next_decision(state, moment, self.instance.policy) is not None:
            state = await self._record(state, Tick())
        if self._is_due(state, now):
            state = await self._launch(state, now)
        return state

    async def _record(self, state: JobState, command: Command) -> JobState:
        """Record the command where it says something new, and return the state after it."""
        if not isinstance(command, Tick) and not decide(state, command):
            return state
        return (await self.instance.log.handle(state.id, command, self.lease.term)).state

    def _is_elsewhere(self, place: str | None) -> bool:
        """Return whether an attempt runs where our executor cannot see it, nor end it."""
        return place is not None and not self.instance.executor.sees(place)

    async def _release(self, state: JobState, now: datetime) -> JobState:
        """See an earlier attempt off whose process outlived the decision on it."""
        attempt = state.releasing
        if attempt is None or self._is_elsewhere(state.releasing_place):
            return state
        seen = await self.instance.executor.observe(state, attempt, now)
        if isinstance(seen, Alive | Waiting) and state.attempt_queued_at is not None:
            await self._end(state, attempt, _seconds(state.attempt_queued_at, now))
        return await self._record(state, Observe(attempt=attempt, sighting=seen))

    async def _observe(self, state: JobState, now: datetime) -> JobState:
        if state.executor is None or state.exit is not None:
            return state
        attempt = (state.id, state.attempt)
        seen = await self._seen(state, now)
        adopting = attempt not in self._met and state.status is JobStatus.RUNNING
        self._note_reach(attempt, seen, now)
        state = await self._note(state, seen, adopting=adopting)
        self._met.add(attempt)
        return state

    async def _note(self, state: JobState, seen: Sighting, *, adopting: bool) -> JobState:
        """Record what was seen where it is news, with what could be gone tomorrow."""
        command = Observe(attempt=state.attempt, sighting=seen, adopting=adopting)
        if not decide(state, command):
            return state
        evidence = None
        try:
            seen, evidence = await self.instance.executor.examine(state, state.attempt, seen)
        except ExecutorUnavailableError as error:
            log.info("no_evidence", job_id=state.id, error=str(error))
        command = Observe(
            attempt=state.attempt, sighting=seen, adopting=adopting, evidence=evidence
        )
        return await self._record(state, command)

    async def _seen(self, state: JobState, now: datetime) -> Sighting:
        if self._is_elsewhere(state.place):
            return Unreachable(message=f"Only a service that can reach {state.place} sees it.")
        seen = await self.instance.executor.observe(state, state.attempt, now)
        if isinstance(seen, Unseen) and not state.status.is_final:
            return await self._unseen(state, now)
        if isinstance(seen, Waiting) and seen.reason == "config_error":
            await self._complete(state, now)
        return seen

    async def _complete(self, state: JobState, now: datetime) -> None:
        """Launch an attempt once more that lacks something: its token's Secret may be deleted."""
        attempt = (state.id, state.attempt)
        ends = state.stop or state.cancel or state.status.is_final
        if ends or attempt in self._completed:
            return
        if not isinstance(await self._start(state, now), Unreachable):
            self._completed.add(attempt)

    def _note_reach(self, attempt: Attempt, seen: Sighting, now: datetime) -> None:
        senses = self.instance.log.senses
        match seen:
            case Unreachable():
                senses.cannot_look(attempt)
            case Alive():
                senses.sees(attempt, now)
            case _:
                senses.can_look(attempt)

    async def _unseen(self, state: JobState, now: datetime) -> Sighting:
        """Start what was to be started and never was; what ran before and is not there is gone."""
        if state.status is JobStatus.RUNNING:
            return Gone(message="Nothing of the attempt is there any more.")
        if state.cancel is not None or state.stop is not None:
            return Gone(message="The attempt was never started.")
        return await self._start(state, now)

    async def _stop(self, state: JobState, now: datetime) -> JobState:
        """Carry out a stop that was decided, or end a process that outlives its job."""
        if state.exit is not None or state.executor is None or self._is_elsewhere(state.place):
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
        force = waited >= ask_after + grace
        # A second SIGTERM would mean more than the first; a second SIGKILL does not.
        if waited < ask_after or ((state.id, attempt) in self._told and not force):
            return
        self.lease.check()
        log.warning("stopping", job_id=state.id, attempt=attempt, force=force)
        try:
            await self.instance.executor.stop(state, attempt, force=force)
        except ExecutorUnavailableError as error:
            log.warning("executor_unavailable", job_id=state.id, error=str(error))
        else:
            self._told.add((state.id, attempt))

    def _is_due(self, state: JobState, now: datetime) -> bool:
        """Return whether the current attempt is to be started and is not asked for yet."""
        if state.status not in (JobStatus.PENDING, JobStatus.QUEUED) or state.executor is not None:
            return False
        waiting = state.cancel is None and state.releasing is None and state.attempt_queued_at
        return bool(waiting) and _seconds(state.attempt_queued_at, now) >= state.retry_delay

    async def _launch(self, state: JobState, now: datetime) -> JobState:
        executor = self.instance.executor
        if executor.name == "external":
            message = "The job waits for somebody to start its trainer with a callback token."
            return await self._enqueue(state, "waiting_for_trainer", message)
        if await executor.free_slots() == 0:
            message = f"All slots of the {executor.name} executor are taken."
            return await self._enqueue(state, "waiting_for_slot", message)
        try:
            place = executor.place_for(state)
        except LaunchHeldError as error:
            return await self._enqueue(state, error.code, str(error))
        message = f"The {executor.name} executor was asked to start attempt {state.attempt}."
        state = await self._enqueue(state, "submitted", message, place=place)
        self._met.add((state.id, state.attempt))
        return await self._observe(state, now)

    async def _enqueue(
        self, state: JobState, reason: str, message: str, *, place: str | None = None
    ) -> JobState:
        """Note why the attempt waits; with a place, that it is asked for there now."""
        command = Enqueue(
            attempt=state.attempt,
            reason=reason,
            message=message,
            executor=self.instance.executor.name if place is not None else None,
            place=place,
        )
        return await self._record(state, command)

    async def _start(self, state: JobState, now: datetime) -> Sighting:
        """Have the executor start the attempt, and look; it starts once however often asked."""
        issued = self.instance.callback_tokens.issue(state.id, state.attempt)
        again = state.attempt > 1
        environment = trainer_environment(
            state,
            self.instance.settings,
            token=issued.token,
            service_url=self.service_url,
            resume=await resume_of(self.instance.store, state.id) if again else None,
        )
        launch = Launch(
            job_id=state.id,
            attempt=state.attempt,
            place=state.place or "",
            environment=environment,
        )
        self.lease.check()
        try:
            await self.instance.executor.launch(launch)
        except LaunchHeldError as error:
            return Waiting(reason=error.code, message=str(error))
        except LaunchRefusedError as error:
            return Gone(refused=True, message=str(error))
        except ExecutorUnavailableError as error:
            log.warning("executor_unavailable", job_id=state.id, error=str(error))
            return Unreachable(message=str(error))
        return await self.instance.executor.observe(state, state.attempt, now)


def _seconds(start: datetime | None, end: datetime) -> float:
    return (end - start).total_seconds() if start else 0.0
