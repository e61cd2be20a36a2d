"""A cluster and a service beside it, for a row's script: each line of it one thing that happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from projections.events import Callback, Created, Done, Heartbeat, TrainerEvent
from projections.job import JobState
from projections.policy import Policy
from service.cluster_client import Kind
from service.job_template import names
from tests.cluster.clients import job_body
from tests.cluster.cluster import Cluster
from tests.cluster.conditions import set_job_condition, set_pod_condition
from tests.cluster.deletion import drop_finalizer
from tests.cluster.objects import EVENTS, JOBS, PODS, Object, Resource, uid_of
from tests.cluster.selectors import Selector
from tests.cluster.store import Change
from tests.given import CREATED, POLICY, Given, at
from tests.scenarios.replay import Replay
from tests.scenarios.tape import STEP, Act, Tape, Write

KEPT = "example.com/keep"
LOOK_SECONDS = 15.0
MOST_LOOKS = 20
_OF_NODES = frozenset({"lose_node", "taint_node", "return_node", "remove_node", "shut_down_node"})
_OF_NOBODY = frozenset({"quota_frees", "try_again", "quota_blocks"})


class World:
    """Records what happens as it happens, and lets the service react as it would.

    What is not found here is a step of the cluster, by default about the current attempt's Job.
    """

    def __init__(
        self,
        *,
        retries: int = 3,
        policy: Policy = POLICY,
        body: Mapping[str, Any] | None = None,
        skew: float = 0.0,
    ) -> None:
        self._skew = skew
        self.created: Created = replace(CREATED, max_retries=retries)
        self.policy = policy
        self.cluster = Cluster(clock=self._clock)
        self.cluster.store.listeners.append(self._note)
        self.tape = Tape()
        self.replay = Replay(self.tape, self.created, policy)
        self._body = dict(body or {})
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
        self.cluster.add_job(job_body(self.name, **self._body))
        self.flush()

    def old_job(self, name: str) -> None:
        """A Job of another log, long finished."""
        self.cluster.add_job(job_body(name, labels={"app": "trainer", "job-id": "7"}))
        self.cluster.schedule(name)
        self.cluster.start(name)
        self.cluster.exit(name, 1)
        self.flush()

    def launched_again(self) -> None:
        """The launcher makes the Job once more and finds it there."""
        self.flush()
        uid, attempt = uid_of(self.cluster.job(self.name)), self.state.attempt
        self._do(lambda replay: replay.launch(attempt, uid))

    def keep_pod(self) -> None:
        """Something else holds the pod by a finalizer of its own."""
        self._change(PODS, lambda pod: pod["metadata"]["finalizers"].append(KEPT))

    def keep_job(self) -> None:
        """Something else holds the Job by a finalizer of its own."""
        self._change(JOBS, lambda job: job["metadata"].setdefault("finalizers", []).append(KEPT))

    def let_job_go(self) -> None:
        """What held the Job lets it go."""
        drop_finalizer(self.cluster.store, JOBS, self.cluster.job(self.name), KEPT)
        self.cluster.settle()
        self.flush()

    def pod_says(self, phase: str, reason: str = "") -> None:
        """The pod's phase is another, as by an older control plane's word."""
        self._change(PODS, lambda pod: pod["status"].update(phase=phase, reason=reason))

    def fails_its_probe(self) -> None:
        """The kubelet finds the container not ready, though it runs."""

        def change(pod: Object) -> None:
            for kind in ("ContainersReady", "Ready"):
                set_pod_condition(pod, kind, "False", self.cluster.now, reason="ContainersNotReady")

        self._change(PODS, change)

    def container_ends(
        self, name: str, *, kind: str = "containerStatuses", phase: str = "", **end: Any
    ) -> None:
        """Another container than the trainer's ends; the pod is Failed where `phase` says so."""

        def change(pod: Object) -> None:
            status = pod["status"]
            others = [one for one in status.get(kind, []) if one["name"] != name]
            status[kind] = [*others, {"name": name, "state": {"terminated": end}}]
            status["phase"] = phase or status["phase"]

        self._change(PODS, change)

    def fails_by_policy(self, message: str) -> None:
        """The container exits with 42, which the Job's failure policy knows."""
        with self.cluster.held():
            self.cluster.exit(self.name, 42)
            now = self.cluster.now
            for kind in ("FailureTarget", "Failed"):
                self._change(
                    JOBS,
                    lambda job, kind=kind: set_job_condition(  # type: ignore[misc]
                        job["status"], kind, "True", now, "PodFailurePolicy", message
                    ),
                )
        self.flush()

    def _change(self, resource: Resource, change: Callable[[Object], None]) -> None:
        read = self.cluster.job if resource is JOBS else self.cluster.pod
        body = read(self.name)
        self.cluster.store.update(
            resource, self.cluster.namespace, body["metadata"]["name"], change
        )
        self.cluster.settle()
        self.flush()

    def cut(self) -> None:
        """The watch hears nothing any more, and nobody knows it yet."""
        self._do(lambda replay: replay.cut())

    def relisted(self) -> None:
        """The watch lists everything anew."""
        self._do(lambda replay: replay.relist())

    def listed_of_old(self) -> None:
        """A server that is behind lists what was there at first."""
        self._do(lambda replay: replay.list_of_old())

    def delivered(self, kind: Kind, line: Any) -> None:
        """The watch delivers this line, which tells of no change."""
        self._do(lambda replay: replay.take(kind, line))

    def numbered_anew(self) -> None:
        """The cluster's store comes back from a backup: all versions are from the past."""
        self.flush()
        self.cluster.store.go_back(100)
        objects = [
            Write(resource, "MODIFIED", entry.body)
            for resource in (JOBS, PODS)
            for _, entry in self.cluster.store.select(resource, None, Selector())
        ]
        for write in objects:
            self.tape.wrote(write)
        count = len(self.tape.writes)
        self._do(lambda replay: replay.reach(count))
        self._do(lambda replay: replay.relist())

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

    def checkpoint(self, uri: str) -> None:
        self._says(TrainerEvent(type="checkpoint_saved", data={"uri": uri, "epoch": 1}), None)

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
        pause = max(LOOK_SECONDS, seconds / MOST_LOOKS)
        while self.log.now < end:
            until = min(self.log.now + pause, end)
            self._do(lambda replay, until=until: replay.wait(until))  # type: ignore[misc]
            self.flush()

    # How it is recorded

    def _clock(self) -> datetime:
        return at(self.replay.log.now + self._skew) if "replay" in self.__dict__ else at(0)

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
        state, found = self.state, []
        grace = self.policy.stop_grace
        if state.releasing is not None and self._since(state.attempt_queued_at) >= grace:
            found.append(state.releasing)
        over = state.completed_at is not None and self._since(state.completed_at) >= grace
        if state.was_started and (state.stop is not None or over):
            found.append(state.attempt)
        return found

    def _since(self, moment: datetime | None) -> float:
        return (at(self.log.now) - moment).total_seconds() if moment is not None else 0.0

    def _launches(self) -> bool:
        state = self.state
        waits = state.status in ("pending", "queued") and state.executor is None
        blocked = state.cancel is not None or state.releasing is not None
        if not waits or blocked or state.attempt_queued_at is None or self.log.unreachable:
            return False
        if self._since(state.attempt_queued_at) < state.retry_delay:
            return False
        attempt = state.attempt
        self._launched.add(attempt)
        with self.cluster.held():
            self.cluster.add_job(job_body(self.name_of(attempt), **self._body))
            uid = uid_of(self.cluster.job(self.name_of(attempt)))
            count = len(self.tape.writes)

            def launch(replay: Replay) -> None:
                replay.reach(count)
                replay.launch(attempt, uid)

            self._hear(Act(STEP, launch))
        return True
