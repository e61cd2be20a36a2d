"""A cluster and a service beside it, for a row's script: each line of it one thing that happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from projections.events import Callback, Created, Done, Heartbeat, TrainerEvent
from projections.job import JobState
from projections.policy import Policy
from service.job_template import names
from tests.cluster.clients import job_body
from tests.cluster.cluster import Cluster
from tests.cluster.objects import EVENTS, JOBS, PODS, uid_of
from tests.cluster.store import Change
from tests.given import CREATED, POLICY, Given, at
from tests.scenarios.replay import Replay
from tests.scenarios.tape import STEP, Act, Tape, Write

LOOK_SECONDS = 15.0
_OF_NODES = frozenset({"lose_node", "taint_node", "return_node", "remove_node", "shut_down_node"})
_OF_NOBODY = frozenset({"quota_frees", "try_again", "quota_blocks"})


class World:
    """Records what happens as it happens, and lets the service react as it would.

    What is not found here is a step of the cluster, by default about the current attempt's Job.
    """

    def __init__(
        self, *, retries: int = 3, policy: Policy = POLICY, spec: dict[str, Any] | None = None
    ) -> None:
        self.created: Created = replace(CREATED, max_retries=retries)
        self.policy = policy
        self.cluster = Cluster(clock=self._clock)
        self.cluster.store.listeners.append(self._note)
        self.tape = Tape()
        self.replay = Replay(self.tape, self.created, policy)
        self._spec = spec or {}
        self._pending: list[Act] = []
        self._told: set[int] = set()
        self._launched: set[int] = set()

    @property
    def log(self) -> Given:
        return self.replay.log

    @property
    def state(self) -> JobState:
        return self.log.state

    @property
    def name(self) -> str:
        """The current attempt's Job."""
        return self.name_of(self.state.attempt)

    def name_of(self, attempt: int) -> str:
        return names(self.state.id, attempt).job

    def __getattr__(self, step: str) -> Callable[..., None]:
        """A step of the cluster; `of=` names an earlier attempt."""
        act = getattr(self.cluster, step)

        def happen(*arguments: Any, of: int | None = None, **options: Any) -> None:
            if step in _OF_NODES | _OF_NOBODY:
                act(*arguments, **options)
            else:
                self.flush()
                act(self._ref(of or max(self._launched, default=1)), *arguments, **options)
            self.flush()

        return happen

    def _ref(self, attempt: int) -> str:
        """The attempt's Job; where that is gone, its pod."""
        name = self.name_of(attempt)
        if self.cluster.store.find(JOBS, self.cluster.namespace, name) is not None:
            return name
        pods = [
            write.object["metadata"]["name"]
            for write in self.tape.writes
            if write.resource is PODS and write.object["metadata"]["generateName"] == f"{name}-"
        ]
        return str(pods[-1])

    # The cluster's side

    def submit(self) -> None:
        """Launch what is due."""
        self.flush()

    def held(self, *steps: Callable[[], object]) -> None:
        """Several things of which the controllers hear only when all have happened."""
        with self.cluster.held():
            for step in steps:
                step()
        self.flush()

    def another_job_of_the_name(self) -> None:
        """Somebody makes a Job under the name of ours."""
        self.cluster.add_job(job_body(self.name, **({"spec": self._spec} if self._spec else {})))
        self.flush()

    def unreachable(self) -> None:
        self._do(lambda replay: replay.reachable(yes=False))

    def reachable(self) -> None:
        self._do(lambda replay: replay.reachable(yes=True))

    def restarted(self) -> None:
        """The service starts anew."""
        self._do(lambda replay: replay.restart())

    # The trainer's and the operator's

    def heartbeat(self, *, epoch: int | None = None, of: int | None = None) -> None:
        self._says(Heartbeat(epoch=epoch, progress=epoch and epoch / 10), of)

    def epoch(self, number: int = 1) -> None:
        self._says(TrainerEvent(type="epoch_end", data={"epoch": number}), None)

    def done(self, *, of: int | None = None) -> None:
        self._says(Done(status="succeeded"), of)

    def gave_up(self, code: str, *, of: int | None = None, **error: Any) -> None:
        self._says(Done(status="failed", error={"code": code, "message": code, **error}), of)

    def cancel(self) -> None:
        self._hear(Act("operator", lambda replay: replay.cancel()))
        self.flush()

    def _says(self, callback: Callback, of: int | None) -> None:
        attempt = of or self.state.attempt
        self._hear(Act("trainer", lambda replay: replay.call_back(attempt, callback)))
        self.flush()

    # Time

    def then(self) -> None:
        """What comes now is heard of after all that came before."""
        self._do(lambda replay: None)

    def later(self, seconds: float) -> None:
        """Let time pass; the service looks now and then."""
        end = self.log.now + seconds
        while self.log.now < end:
            until = min(self.log.now + LOOK_SECONDS, end)
            self._do(lambda replay, until=until: replay.wait(until))  # type: ignore[misc]
            self.flush()

    # How it is recorded

    def _clock(self) -> datetime:
        return at(self.replay.log.now) if "replay" in self.__dict__ else at(0)

    def _note(self, change: Change) -> None:
        if change.entry.resource in (JOBS, PODS, EVENTS):
            act = self.tape.wrote(Write(change.entry.resource, change.type, change.entry.body))
            if act is not None:
                self._pending.append(act)

    def flush(self) -> None:
        """Tell the service what the cluster did, and carry out what follows until all is quiet."""
        while True:
            while self._pending:
                self._hear(self._pending.pop(0))
            if not (self._stops() or self._launches()):
                return

    def _hear(self, act: Act) -> None:
        self.tape.acts.append(act)
        act.do(self.replay)

    def _do(self, step: Callable[[Replay], None]) -> None:
        self.flush()
        self._hear(Act(STEP, step))
        self.flush()

    def _stops(self) -> bool:
        """Have a Job deleted that the log wants gone, as the supervisor does."""
        for attempt in self._to_be_stopped():
            if attempt in self._told or self.log.unreachable:
                continue
            self._told.add(attempt)
            job = self.cluster.store.find(JOBS, self.cluster.namespace, self.name_of(attempt))
            if job is not None:
                self._hear(Act(STEP, lambda replay: None))
                self.cluster.delete_job(self.name_of(attempt), "Foreground")
                return True
        return False

    def _to_be_stopped(self) -> list[int]:
        state, found, now = self.state, [], at(self.log.now)
        if state.releasing is not None and state.attempt_queued_at is not None:
            if (now - state.attempt_queued_at).total_seconds() >= self.policy.stop_grace:
                found.append(state.releasing)
        if state.was_started and state.stop is not None:
            found.append(state.attempt)
        if state.was_started and state.completed_at is not None:
            if (now - state.completed_at).total_seconds() >= self.policy.stop_grace:
                found.append(state.attempt)
        return found

    def _launches(self) -> bool:
        state = self.state
        waits = state.status in ("pending", "queued") and state.executor is None
        blocked = state.cancel is not None or state.releasing is not None
        if not waits or blocked or state.attempt_queued_at is None or self.log.unreachable:
            return False
        if (at(self.log.now) - state.attempt_queued_at).total_seconds() < state.retry_delay:
            return False
        attempt = state.attempt
        self._launched.add(attempt)
        with self.cluster.held():
            body = job_body(self.name_of(attempt), **({"spec": self._spec} if self._spec else {}))
            self.cluster.add_job(body)
            uid = uid_of(self.cluster.job(self.name_of(attempt)))
            count = len(self.tape.writes)

            def launch(replay: Replay) -> None:
                replay.reach(count)
                replay.launch(attempt, uid)

            self._hear(Act(STEP, launch))
        return True
