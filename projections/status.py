"""What a job's log says about the job: one fold, used by the writers and the readers alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from functools import reduce
from typing import assert_never

from projections.checkpoints import damaged_in, saved_in, with_saved, without_damaged
from projections.events import (
    Adopted,
    AttemptFailed,
    CancelDelivered,
    Cancelled,
    CancelRequested,
    Created,
    Done,
    Evidence,
    Exited,
    Failed,
    HealthChanged,
    Heartbeat,
    Heartbeats,
    Launched,
    Queued,
    Record,
    RetryScheduled,
    Running,
    StopRequested,
    Succeeded,
    Terminating,
    TokenIssued,
    TrainerEvent,
    Unrecognised,
)
from projections.job import Cancel, Ending, Exit, JobState, JobStatus, Reason, Result, Stop, changed
from projections.progress import Progress, advance, has_moved, tracking_run_in
from projections.rules import Rule


def ruling(state: JobState, record: Record) -> Rule | None:
    """Return the rule that sets this event aside, or None where it counts."""
    if (
        state.status is JobStatus.RUNNING
        and state.result is None
        and record.attempt == state.attempt
        and type(record.event) is Heartbeat
    ):
        return None  # as nearly always
    match record.event:
        case Unrecognised():
            return Rule.UNRECOGNISED_TYPE
        case Created():
            return Rule.ALREADY_REQUESTED if state.created_at else None
        case Evidence() | TokenIssued():
            return None
        case Exited():
            return _exit_ruling(state, record)
        case _:
            return _fence(state, record) or _repetition(state, record)


def _fence(state: JobState, record: Record) -> Rule | None:
    if state.status.is_final:
        return Rule.JOB_IS_FINAL
    if record.attempt < state.attempt:
        return Rule.STALE_ATTEMPT
    if record.attempt > state.attempt:
        return Rule.UNKNOWN_ATTEMPT
    return None


def _exit_ruling(state: JobState, record: Record) -> Rule | None:
    """An end is noted even of a job that is over: only then is nothing of it left behind."""
    if record.attempt == state.releasing:
        return None
    if record.attempt < state.attempt:
        return Rule.STALE_ATTEMPT
    if record.attempt > state.attempt:
        return Rule.UNKNOWN_ATTEMPT
    return Rule.ATTEMPT_IS_GONE if state.exit is not None else None


def _repetition(state: JobState, record: Record) -> Rule | None:
    match record.event:
        case Heartbeat() | Heartbeats() | TrainerEvent() | Done() if state.result is not None:
            return Rule.ATTEMPT_IS_DONE
        case Queued() | Running() | Adopted() | Terminating() if state.exit is not None:
            return Rule.ATTEMPT_IS_GONE
        case CancelRequested() if state.cancel is not None:
            return Rule.ALREADY_REQUESTED
        case CancelDelivered() if state.cancel is not None and state.cancel.delivered is not None:
            return Rule.ALREADY_REQUESTED
        case StopRequested() if state.stop is not None:
            return Rule.ALREADY_REQUESTED
        case AttemptFailed() if state.failure is not None:
            return Rule.FIRST_CAUSE_STAYS
        case _:
            return None


def evolve(state: JobState, record: Record) -> JobState:
    """Apply one event. It never refuses: what is in the log has happened."""
    return ruled(state, record, ruling(state, record))


def ruled(state: JobState, record: Record, aside: Rule | None) -> JobState:
    """Apply one event about which `ruling` was asked before."""
    if aside is None and type(record.event) is Heartbeat and state.status is JobStatus.RUNNING:
        return _beaten(state, record, record.event)
    state = changed(state, version=record.version, position=record.position)
    return state if aside else _apply(state, record)


def _beaten(state: JobState, record: Record, beat: Heartbeat) -> JobState:
    """Apply a heartbeat of a training that runs, in one step: most of the log is heartbeats."""
    before = state.attempt_progress
    own = advance(before, beat)
    alike = state.progress is before or state.progress == before
    return changed(
        state,
        version=record.version,
        position=record.position,
        alive_at=record.recorded_at,
        advanced_at=record.recorded_at if has_moved(before, own) else state.advanced_at,
        progress=own if alike else advance(state.progress, beat),
        attempt_progress=own,
    )


def fold(records: Iterable[Record], state: JobState | None = None) -> JobState:
    """Return the state after these records, from the start or from a state before them."""
    return reduce(evolve, records, state or JobState())


def _apply(state: JobState, record: Record) -> JobState:
    match record.event:
        case Created():
            return _created(record, record.event)
        case Queued() as event:
            return _queued(state, record, event)
        case Launched(uid=uid):
            return changed(state, uid=uid)
        case Running() | Adopted() as event:
            return _seen(state, record, event)
        case Heartbeat() | Heartbeats() | TrainerEvent() | Done() as event:
            return _called_back(state, record, event)
        case Terminating(reason=reason, message=message):
            since = state.ending.at if state.ending is not None else record.recorded_at
            ending = Ending(at=since, position=record.position, reason=reason, message=message)
            return changed(state, ending=ending)
        case Exited() as event:
            return _exited(state, record, event)
        case CancelRequested(reason=reason):
            cancel = Cancel(at=record.recorded_at, position=record.position, reason=reason)
            return changed(state, cancel=cancel)
        case CancelDelivered():
            heard = state.cancel and replace(state.cancel, delivered=record.position)
            return changed(state, cancel=heard)
        case StopRequested(reason=reason, message=message):
            stop = Stop(
                at=record.recorded_at, position=record.position, reason=reason, message=message
            )
            return changed(state, stop=stop)
        case HealthChanged(verdict=verdict):
            return changed(state, verdict=verdict)
        case AttemptFailed() as event:
            return changed(state, failure=event, failure_at=record.position)
        case RetryScheduled() as event:
            return _retried(state, record, event)
        case Succeeded() | Failed() | Cancelled() as event:
            return _ended(state, record, event)
        case Evidence() | TokenIssued() | Unrecognised():
            return state
        case _ as never:
            assert_never(never)


def _created(record: Record, event: Created) -> JobState:
    progress = Progress(epochs=event.epochs)
    return JobState(
        id=record.job_id,
        trace_id=record.trace_id,
        dataset_id=event.dataset_id,
        model_name=event.model_name,
        epochs=event.epochs,
        max_retries=event.max_retries,
        imgsz=event.imgsz,
        batch=event.batch,
        params=event.params,
        labels=event.labels,
        priority=event.priority,
        cluster=event.cluster,
        idempotency_key=event.idempotency_key,
        created_at=record.recorded_at,
        attempt_queued_at=record.recorded_at,
        reason=Reason("created", "The job was created and waits for the launcher."),
        rule=Rule.CREATED,
        decided_by=(record.position,),
        progress=progress,
        attempt_progress=progress,
        version=record.version,
        position=record.position,
        first_position=record.position,
    )


def _queued(state: JobState, record: Record, event: Queued) -> JobState:
    if state.status is JobStatus.RUNNING:  # suspended or relaunched: it waits from now on
        state = changed(
            state,
            attempt_queued_at=record.recorded_at,
            running_since=None,
            retry_delay=0.0,
            reachable_at=None,
            result=None,  # undecided, so it said only that its pod was being ended
        )
    return changed(
        state,
        status=JobStatus.QUEUED,
        reason=Reason(event.reason, event.message),
        rule=Rule.WAITING,
        decided_by=(record.position,),
        queued_at=state.queued_at or record.recorded_at,
        waiting_since=record.recorded_at,
        executor=event.executor or state.executor,
        place=event.place or state.place,
        pod=event.pod or state.pod,
        ending=None,
    )


def _seen(state: JobState, record: Record, event: Running | Adopted) -> JobState:
    state = changed(state, reachable_at=record.recorded_at)
    pod = event.pod if isinstance(event, Running) else None
    if state.status is JobStatus.RUNNING and not state.is_another(pod):
        return changed(state, pod=state.pod or pod)
    state = changed(state, pod=pod or state.pod, ending=None)
    code = "adopted" if isinstance(event, Adopted) else event.reason
    return _started(state, record, Rule.SEEN_RUNNING, Reason(code, event.message))


def _started(state: JobState, record: Record, rule: Rule, reason: Reason) -> JobState:
    return changed(
        state,
        status=JobStatus.RUNNING,
        reason=reason,
        rule=rule,
        decided_by=(record.position,),
        started_at=state.started_at or record.recorded_at,
        running_since=record.recorded_at,
    )


def _called_back(
    state: JobState, record: Record, event: Heartbeat | Heartbeats | TrainerEvent | Done
) -> JobState:
    if state.status is not JobStatus.RUNNING:
        reason = Reason("called_back", f"The trainer of attempt {record.attempt} called back.")
        state = _started(state, record, Rule.CALLBACK_MEANS_RUNNING, reason)
    before, own = state.attempt_progress, advance(state.attempt_progress, event)
    first = state.progress is before or state.progress == before
    state = changed(
        state,
        alive_at=record.recorded_at,
        advanced_at=record.recorded_at if has_moved(before, own) else state.advanced_at,
        progress=own if first else advance(state.progress, event),
        attempt_progress=own,
    )
    match event:
        case Done():
            return _with_result(state, record, event)
        case TrainerEvent():
            return _with_news(state, record, event)
        case Heartbeats(advanced_at=str(moved_at)):
            return changed(state, advanced_at=datetime.fromisoformat(moved_at))
        case Heartbeat() | Heartbeats():
            return state


def _with_news(state: JobState, record: Record, event: TrainerEvent) -> JobState:
    """Keep what a further attempt needs: the newest checkpoints, and the run that it is tracked in.

    `projections.beats` knows which of a trainer's events come here.
    """
    known = state.checkpoints
    if (saved := saved_in(record)) is not None:
        known = with_saved(known, saved)
    elif (uri := damaged_in(event)) is not None:
        known = without_damaged(known, uri, record)
    elif (run_id := tracking_run_in(event)) is not None:
        return changed(state, mlflow_run_id=run_id)
    if known == state.checkpoints:
        return state
    newest = known[0] if known else None
    return changed(
        state,
        checkpoints=known,
        checkpoint=newest.uri if newest else None,
        checkpoint_epoch=newest.epoch if newest else None,
    )


def _with_result(state: JobState, record: Record, event: Done) -> JobState:
    result = Result(
        position=record.position,
        succeeded=event.status == "succeeded",
        after_cancel=state.cancel is not None and state.cancel.delivered is not None,
        error=event.error or {},
    )
    return changed(
        state,
        result=result,
        mlflow_run_id=event.mlflow_run_id or state.mlflow_run_id,
        artifacts=event.artifacts or state.artifacts,
    )


def _exited(state: JobState, record: Record, event: Exited) -> JobState:
    if record.attempt == state.releasing:
        return changed(state, releasing=None, releasing_uid=None)
    seen = Exit(
        at=record.recorded_at,
        position=record.position,
        exit_code=event.exit_code,
        signal=event.signal,
        machine_lost=event.machine_lost,
        refused=event.refused,
        message=event.message,
        cause=event.cause,
        node=event.node,
    )
    return changed(state, exit=seen, reachable_at=record.recorded_at)


def _retried(state: JobState, record: Record, event: RetryScheduled) -> JobState:
    return changed(
        state,
        status=JobStatus.QUEUED,
        reason=Reason(event.reason, event.message),
        rule=Rule.RETRY_WITHIN_BUDGET,
        decided_by=(*event.because, record.position),
        attempt=event.next_attempt,
        retry_count=event.retry_count_after,
        interruptions=event.interruptions_after,
        executor=None,
        queued_at=state.queued_at or record.recorded_at,
        attempt_queued_at=record.recorded_at,
        waiting_since=record.recorded_at,
        running_since=None,
        retry_delay=event.delay_seconds,
        attempt_progress=Progress(epochs=state.progress.epochs),
        alive_at=None,
        advanced_at=None,
        reachable_at=None,
        stop=None,
        ending=None,
        exit=None,
        result=None,
        failure=None,
        verdict="not_running",
        place=None,
        uid=None,
        pod=None,
        releasing=state.attempt if state.was_started else state.releasing,
        releasing_place=state.place if state.was_started else state.releasing_place,
        releasing_uid=state.uid if state.was_started else state.releasing_uid,
    )


def _ended(state: JobState, record: Record, event: Succeeded | Failed | Cancelled) -> JobState:
    status, reason, rule = _ending(event)
    return changed(
        state,
        status=status,
        reason=reason,
        rule=rule,
        decided_by=(*event.because, record.position),
        completed_at=record.recorded_at,
        final_position=record.position,
        verdict="not_running",
    )


def _ending(event: Succeeded | Failed | Cancelled) -> tuple[JobStatus, Reason, Rule]:
    match event:
        case Succeeded():
            reason = Reason("done", "The trainer reported success.")
            return JobStatus.SUCCEEDED, reason, Rule.DONE_DECIDES_SUCCESS
        case Failed(reason=code, message=message, why=why):
            return JobStatus.FAILED, Reason(code, message), Rule(why)
        case Cancelled(reason=code, message=message):
            rule = (
                Rule.NEVER_LAUNCHED if code == "cancelled_before_launch" else Rule.CANCEL_CONFIRMED
            )
            return JobStatus.CANCELLED, Reason(code, message), rule
