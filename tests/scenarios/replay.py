"""A service without a network: its memory of the cluster, its log, and the rules between them.

It does at each news what `Attending` does in a round, with nothing of its own to decide.
"""

from __future__ import annotations

from typing import Any, cast

from projections.decide import Enqueue, JobHasEndedError, Observe, RequestCancel, Tick
from projections.events import Callback, Created
from projections.look import Look, lacks_a_pod
from projections.objects import Object, part, text, uid_of
from projections.policy import Policy
from projections.reconcile import sight, sight_of_released
from projections.sighting import Alive, Gone, Sighting, Unseen
from service.cluster_client import JOBS, PODS, ClusterClient, Kind
from service.cluster_watch import ClusterWatch
from tests.cluster import objects as fake
from tests.given import Given, at
from tests.scenarios.tape import Tape, Write

CHANGES_AT_MOST = 12


class Replay:
    """One job, seen through one view of the cluster or several."""

    def __init__(self, tape: Tape, created: Created, policy: Policy, *, views: int = 1) -> None:
        self.log = Given(created, policy=policy)
        self.made: dict[int, str] = {}
        """The uids of the attempts' Jobs, as the launcher knows them."""
        self.withheld = False
        """The watch is cut: writes happen and nobody hears of them."""
        self.again = 1
        """How often everything is delivered."""
        self._tape = tape
        self._watches = [_watch() for _ in range(views)]
        self._turn = 0
        self._adopting = False
        self._truth: dict[fake.Resource, dict[str, Object]] = {
            resource: {} for resource in (fake.JOBS, fake.PODS, fake.EVENTS)
        }
        self._reached = 0

    # What it hears

    def hear(self, number: int) -> None:
        """Hear of a write, and so of everything that the cluster did before it, if asked."""
        self.reach(number + 1)
        if self.withheld:
            return
        for _ in range(self.again):
            self._deliver(self._tape.writes[number])
        if self.again > 1:
            self._deliver_stale(number)

    def reach(self, count: int) -> None:
        """Let the cluster be where it was after so many writes."""
        for write in self._tape.writes[self._reached : count]:
            kept = self._truth[write.resource]
            if write.type == "DELETED":
                kept.pop(uid_of(write.object))
            else:
                kept[uid_of(write.object)] = write.object
        self._reached = max(self._reached, count)

    def restart(self) -> None:
        """Forget everything and list what is there now, as a new process does."""
        self._watches = [_watch() for _ in self._watches]
        self.made.clear()
        self._adopting = True
        self.relist()
        self._adopting = False

    def cut(self) -> None:
        self.withheld = True

    def relist(self) -> None:
        self.withheld = False
        for watch in self._watches:
            watch.view.list_jobs(self._truth[fake.JOBS].values())
            watch.view.list_pods(self._truth[fake.PODS].values())
        self.attend()

    def list_of_old(self) -> None:
        """List every object that is there in the first version of it."""
        for resource in (fake.JOBS, fake.PODS):
            first: dict[str, Object] = {}
            for write in self._tape.writes[: self._reached]:
                if write.resource is resource:
                    first.setdefault(uid_of(write.object), write.object)
            for watch in self._watches:
                view = watch.view
                listing = view.list_jobs if resource is fake.JOBS else view.list_pods
                listing(first.values())
        self.attend()

    def take(self, kind: Kind, line: Any) -> None:
        for watch in self._watches:
            watch._take(kind, line)
        self.attend()

    def _deliver(self, write: Write) -> None:
        kind = JOBS if write.resource is fake.JOBS else PODS
        for watch in self._watches:
            watch._take(kind, {"type": write.type, "object": write.object})
        self.attend()

    def _deliver_stale(self, number: int) -> None:
        """An older version of the same object once more, as a lagging server may send it."""
        write = self._tape.writes[number]
        uid = uid_of(write.object)
        for old in reversed(self._tape.writes[:number]):
            if old.resource is write.resource and uid_of(old.object) == uid:
                self._deliver(old)
                return

    # What happens

    def launch(self, attempt: int, uid: str) -> None:
        """Ask for the attempt, and make its Job."""
        self.log.when(
            Enqueue(
                attempt=attempt,
                reason="submitted",
                message="Asked.",
                executor="kubernetes",
                place="kubernetes:default/training",
            )
        )
        self.made[attempt] = uid
        for watch in self._watches:
            watch.view.see_job(self._truth[fake.JOBS][uid])
        self.attend()

    def call_back(self, attempt: int, callback: Callback) -> None:
        self.log.hears(callback, attempt=attempt)
        self.attend()

    def cancel(self) -> None:
        try:
            self.log.when(RequestCancel(reason="enough"))
        except JobHasEndedError:
            assert self.log.status.is_final
        self.attend()

    def wait(self, until: float) -> None:
        self.log.tick(at=until)
        self.attend()

    def reachable(self, *, yes: bool) -> None:
        self.log.unreachable = not yes
        self.withheld = not yes
        if yes:
            self.relist()
        else:
            self.attend()

    # What it does about it

    def attend(self) -> None:
        """Look until nothing is new, as the rounds do."""
        for _ in range(CHANGES_AT_MOST):
            before = self.log.state.version
            self._turn += 1
            self._look()
            self.log.when(Tick())
            if self.log.state.version == before:
                return
        raise AssertionError(f"it never comes to rest: {self.log.types()}")

    def _look(self) -> None:
        if self.log.unreachable:
            return
        state = self.log.state
        if state.releasing is not None:
            seen = self._sight(state.releasing, state.releasing_uid)
            self.log.when(Observe(attempt=state.releasing, sighting=seen))
        state = self.log.state
        if state.executor is not None and state.exit is None:
            seen = self._sight(state.attempt, state.uid)
            adopting = self._adopting and state.status == "running" and isinstance(seen, Alive)
            self.log.when(Observe(attempt=state.attempt, sighting=seen, adopting=adopting))
            self._adopting = False

    def _sight(self, attempt: int, uid: str | None) -> Sighting:
        state = self.log.state
        uid = uid or self.made.get(attempt)
        seen = Unseen() if uid is None else self._seen(attempt, uid)
        if isinstance(seen, Unseen) and attempt == state.attempt and not state.status.is_final:
            if state.status == "running":
                return Gone(message="Nothing of the attempt is there any more.")
            if state.cancel is not None or state.stop is not None:
                return Gone(message="The attempt was never started.")
        return seen

    def _seen(self, attempt: int, uid: str) -> Sighting:
        view = self._watches[self._turn % len(self._watches)].view
        job = view.jobs.get(uid) or self._asked_for(uid)
        pods = view.pods_of(uid)
        gone = view.gone_pods & {uid_of(pod) for pod in pods}
        look = Look(
            job=job,
            pods=pods,
            gone=frozenset(gone),
            warnings=self._warnings(uid) if lacks_a_pod(job, len(pods), len(gone)) else (),
        )
        state = self.log.state
        seeing = sight if attempt == state.attempt else sight_of_released
        return seeing(look, state, at(self.log.now), self.log.policy)

    def _asked_for(self, uid: str) -> Object | None:
        """A Job that is in no list is asked for by name, and then it is known."""
        there = self._truth[fake.JOBS].get(uid)
        if there is not None:
            for watch in self._watches:
                watch.view.see_job(there)
        return there

    def _warnings(self, uid: str) -> list[Object]:
        events = self._truth[fake.EVENTS].values()
        return [one for one in events if text(part(one, "involvedObject"), "uid") == uid]


def _watch() -> ClusterWatch:
    nobody = cast("ClusterClient", None)  # it is told what happens, and never asks
    return ClusterWatch(name="one", client=nobody, changed=lambda _uids: None)
