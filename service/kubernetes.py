"""The executor that runs attempts as Kubernetes Jobs, on one cluster or several."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import structlog

from projections.events import Evidence
from projections.job import JobState
from projections.look import Look, lacks_a_pod
from projections.objects import (
    Object,
    name_of,
    newest,
    part,
    parts,
    takes_its_pods_along,
    text,
    uid_of,
)
from projections.pods import TRAINER
from projections.policy import Policy
from projections.reconcile import sight, sight_of_released
from projections.sighting import Sighting, Unreachable, Unseen, Waiting
from service.cluster_client import (
    PODS,
    ClusterClient,
    ClusterForbidsError,
    ClusterRefusesError,
)
from service.cluster_launcher import ClusterLauncher
from service.cluster_watch import ClusterWatch
from service.clusters import Cluster, Clusters
from service.errors import InvalidRequestError
from service.executor import (
    Contact,
    ExecutorUnavailableError,
    Found,
    Launch,
    LaunchHeldError,
    News,
)
from service.job_template import LOG_ANNOTATION, JobTemplate, names
from service.pod_evidence import pod_evidence
from service.remains import remains_in

WARNING_SECONDS = 10.0
EVIDENCE_SECONDS = 5.0
EVIDENCE_LINES = 100
CONTROLLER_LABEL = "batch.kubernetes.io/controller-uid"
UNREMARKABLE = frozenset({None, "scheduling", "container_creating"})

T = TypeVar("T")
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Reach:
    """One cluster, with all that is known of it here."""

    cluster: Cluster
    client: ClusterClient
    launcher: ClusterLauncher
    watch: ClusterWatch
    made: dict[str, str] = field(default_factory=dict)
    """The uids of Jobs whose launch is complete here, by name, until the log knows them."""
    absent: set[str] = field(default_factory=set)
    """The uids of Jobs of which the cluster has confirmed that they are not there."""
    warnings: dict[str, tuple[float, list[Object]]] = field(default_factory=dict)
    """What was last said about Jobs without pods, by uid, and when it was asked."""


class KubernetesExecutor:
    """Makes Jobs, follows them and has them deleted; it remembers nothing that the log needs."""

    name = "kubernetes"
    at_once = 32

    def __init__(
        self, clusters: Clusters, *, image: str, policy: Policy, kubeconfig: str | None = None
    ) -> None:
        """Take the clusters, and the trainer's image."""
        self.news = News()
        self.log_id = ""
        self._clusters, self._policy = clusters, policy
        self._reaches = {one.place: self._reach_of(one, image, kubeconfig) for one in clusters}

    def _reach_of(self, cluster: Cluster, image: str, kubeconfig: str | None) -> _Reach:
        client = ClusterClient(
            namespace=cluster.namespace,
            name=cluster.name,
            context=cluster.context,
            kubeconfig=kubeconfig,
            in_cluster=cluster.in_cluster or _is_only_inside(cluster, kubeconfig),
        )
        template = JobTemplate.load(cluster.job_template)
        launcher = ClusterLauncher(client, cluster, template, image)
        watch = ClusterWatch(name=cluster.name, client=client, changed=lambda _uids: None)
        reach = _Reach(cluster=cluster, client=client, launcher=launcher, watch=watch)
        watch.changed = lambda uids: self._changed(reach, uids)
        return reach

    def check(self) -> None:
        """Say what is odd about the templates; whatever is wrong was refused before."""
        for reach in self._reaches.values():
            for warning in reach.launcher.template.warnings:
                log.warning("job_template", cluster=reach.cluster.name, warning=warning)

    def place_for(self, job: JobState) -> str:
        """Return the cluster that the job names, or the first; it may be one of before."""
        try:
            return self._clusters.cluster_for(job.cluster).place
        except InvalidRequestError as error:
            raise LaunchHeldError("cluster_unknown", error.detail) from error

    def sees(self, place: str) -> bool:
        """Whether the place is one of our clusters."""
        return place in self._reaches

    async def free_slots(self) -> int | None:
        """No limit: the cluster has its own."""
        return None

    async def follow(self) -> None:
        """Follow every cluster until cancelled; what is forbidden is for the next to find out."""
        try:
            async with asyncio.TaskGroup() as group:
                for reach in self._reaches.values():
                    group.create_task(reach.watch.run())
        finally:
            for reach in self._reaches.values():
                reach.client.forbidden.clear()

    def problems(self) -> Mapping[str, str]:
        """Return which clusters cannot be followed now, and what is forbidden in any of them."""
        found = {}
        for one in self._reaches.values():
            if one.watch.follows and one.watch.problem is not None:
                found[one.cluster.name] = one.watch.problem
            for wish, words in one.client.forbidden.items():
                found[f"{one.cluster.name}: {wish}"] = words
        return found

    def contacts(self) -> Mapping[str, Contact]:
        """Return how it stands with each cluster."""
        return {
            one.cluster.name: Contact(
                heard_seconds_ago=one.watch.heard_seconds_ago,
                problem=one.watch.problem if one.watch.follows else None,
                malformed=one.watch.malformed,
                restarts=one.watch.restarts,
            )
            for one in self._reaches.values()
        }

    def finds(self) -> Mapping[str, Sequence[Found]]:
        """Return what lies in each cluster of which the view is fresh."""
        return {
            place: list(remains_in(one.watch.view, one.cluster))
            for place, one in self._reaches.items()
            if one.watch.problem is None
        }

    def launched_as(self, job_id: int, attempt: int) -> str:
        """Return the name of the attempt's Job."""
        return names(job_id, attempt).job

    async def remove(self, found: Found) -> None:
        """Have the Job deleted, and its pods before it."""
        client = self._reaches[found.place].client
        await _asked(client.delete_job(found.name, found.uid))

    async def clear(self, found: Found, attempt: int) -> bool:
        """Delete the token's Secret, once the cluster confirms that the name has no Job."""
        client = self._reaches[found.place].client
        if (there := await _asked(client.job(found.name))) is not None:
            return uid_of(there) != found.uid  # another's Job has the name, and the Secret
        await _asked(client.delete_secret(names(int(found.job_id), attempt).secret))
        return True

    async def launch(self, launch: Launch) -> None:
        """Make the Job, then the Secret that it owns; what is there already is taken for made."""
        reach = self._reaches[launch.place]
        job = await reach.launcher.launch(launch, log_id=self.log_id)
        reach.made[name_of(job)] = uid_of(job)
        reach.watch.view.see_job(job)

    async def observe(self, job: JobState, attempt: int, now: datetime) -> Sighting:
        """Return what the cluster shows of the current attempt, or of the one before it."""
        place, known = _whereabouts(job, attempt)
        reach = self._reaches[place]
        if (problem := reach.watch.problem) is not None:
            return Unreachable(message=problem)
        name = names(job.id, attempt).job
        uid = known or reach.made.get(name)
        try:
            uid = uid or await self._uid_by_name(reach, job, attempt)
            if uid is None:
                return Unseen()
            look = await self._look(reach, name, uid)
        except (ExecutorUnavailableError, ClusterRefusesError) as error:
            return Unreachable(message=str(error))
        seeing = sight if attempt == job.attempt else sight_of_released
        return seeing(look, job, now, self._policy)

    async def _uid_by_name(self, reach: _Reach, job: JobState, attempt: int) -> str | None:
        """Look for a Job that was made just before a crash, so that the log has no uid of it.

        One that has not called back is not looked for: it may lack its Secret, and launching it
        again completes it.
        """
        if attempt == job.attempt and job.alive_at is None:
            return None
        there = await reach.client.job(names(job.id, attempt).job)
        if there is None or not self._is_of(there, job):
            return None
        reach.watch.view.see_job(there)
        return uid_of(there)

    async def _look(self, reach: _Reach, name: str, uid: str) -> Look:
        """Return what is known of a Job; that it is not there is believed only of the cluster."""
        view = reach.watch.view
        job = view.jobs.get(uid)
        if job is None and uid not in reach.absent:
            there = await reach.client.job(name)
            if there is not None and uid_of(there) == uid:
                job = there
                view.see_job(there)
            else:
                reach.absent.add(uid)
                if there is not None:
                    log.warning("job_replaced", name=name, uid=uid, other=uid_of(there))
        pods = view.pods_of(uid)
        gone = view.gone_pods & {uid_of(pod) for pod in pods}
        unmade = lacks_a_pod(job, len(pods), len(gone))
        return Look(
            job=job,
            pods=pods,
            gone=frozenset(gone),
            warnings=await self._warnings(reach, uid) if unmade else (),
        )

    async def _warnings(self, reach: _Reach, uid: str) -> Sequence[Object]:
        """Return what the cluster says about a Job without pods, asked for now and then."""
        asked, known = reach.warnings.get(uid, (0.0, []))
        if time.monotonic() - asked > WARNING_SECONDS:
            try:
                known = await reach.client.events_about(uid)
            except (ClusterForbidsError, ClusterRefusesError) as error:
                log.info("events_unreadable", cluster=reach.cluster.name, error=str(error))
            reach.warnings[uid] = (time.monotonic(), known)
        return known

    async def stop(self, job: JobState, attempt: int, *, force: bool) -> None:  # noqa: ARG002
        """Have the Job deleted, its pod first; the pod's own grace is all the force there is."""
        place, uid = _whereabouts(job, attempt)
        reach = self._reaches[place]
        called = names(job.id, attempt)
        if uid is None:
            there = await reach.client.job(called.job)
            if there is None or not self._is_of(there, job):
                return
            uid = uid_of(there)
        if takes_its_pods_along(reach.watch.view.jobs.get(uid, {})):
            return
        await _asked(reach.client.delete_job(called.job, uid))

    async def examine(
        self, job: JobState, attempt: int, seen: Sighting
    ) -> tuple[Sighting, Evidence | None]:
        """Keep what the cluster shows now and may not show tomorrow; of mere steps nothing."""
        if isinstance(seen, Waiting) and seen.reason in UNREMARKABLE:
            return seen, None
        return seen, await self._evidence(job, attempt, seen)

    async def _evidence(self, job: JobState, attempt: int, seen: Sighting) -> Evidence | None:
        place, uid = _whereabouts(job, attempt)
        identity = getattr(seen, "identity", None)
        uid = uid or (identity.uid if identity is not None else None)
        reach = self._reaches.get(place)
        if reach is None or uid is None:
            return None
        view = reach.watch.view
        pod = newest(view.pods_of(uid))
        about = uid_of(pod) if pod is not None else uid
        events, lines = await asyncio.gather(
            _within(reach.client.events_about(about)),
            _within(self._log_of(reach, pod, EVIDENCE_LINES)),
        )
        return pod_evidence(view.jobs.get(uid), pod, events or (), lines or "")

    async def logs(self, job_id: int, attempt: int, tail: int | None) -> str | None:
        """Return the output of the attempt's pod, as long as that is there."""
        name = names(job_id, attempt).job
        unavailable: list[ExecutorUnavailableError] = []
        for reach in self._reaches.values():
            try:
                output = await _asked(self._logs(reach, name, tail))
            except ExecutorUnavailableError as error:
                unavailable.append(error)
            else:
                if output is not None:
                    return output
        if unavailable:
            raise unavailable[0]
        return None

    async def _logs(self, reach: _Reach, name: str, tail: int | None) -> str | None:
        """Return the output of the Job of this name, if that is of our log."""
        view, fresh = reach.watch.view, reach.watch.problem is None
        job = (view.job_named(name) if fresh else None) or await reach.client.job(name)
        log_of = text(part(job, "metadata", "annotations"), LOG_ANNOTATION)
        if job is None or log_of not in {self.log_id, ""}:
            return None
        pods = view.pods_of(uid_of(job)) if fresh else []
        if not pods:
            selector = f"{CONTROLLER_LABEL}={uid_of(job)}"
            pods, _ = await reach.client.list_all(PODS, selector)
        return await self._log_of(reach, newest(pods), tail)

    async def _log_of(self, reach: _Reach, pod: Object | None, tail: int | None) -> str | None:
        if pod is None or uid_of(pod) in reach.watch.view.gone_pods:
            return None
        containers = [text(one, "name") for one in parts(part(pod, "spec"), "containers")]
        container = TRAINER if TRAINER in containers else next(iter(containers), None)
        return await reach.client.pod_log(name_of(pod), tail, container)

    def keep(self, jobs: Iterable[JobState]) -> None:
        """Forget what is gone, but for the Jobs of these."""
        kept = list(jobs)
        uids = {uid for job in kept for uid in (job.uid, job.releasing_uid) if uid is not None}
        for reach in self._reaches.values():
            if reach.launcher.holds or reach.made:
                current = {names(job.id, job.attempt).job for job in kept}
                reach.launcher.keep(current)
                reach.made = {name: uid for name, uid in reach.made.items() if name in current}
            reach.watch.view.forget_all_but(uids)
            reach.absent &= uids
            reach.made = {name: uid for name, uid in reach.made.items() if uid not in uids}
            reach.warnings = {uid: said for uid, said in reach.warnings.items() if uid in uids}

    async def close(self) -> None:
        """Let go of the connections; the Jobs go on."""
        for reach in self._reaches.values():
            await reach.client.close()

    def _changed(self, reach: _Reach, uids: set[str]) -> None:
        """Wake whoever looks after the jobs of these Jobs."""
        view = reach.watch.view
        ids = set()
        for uid in uids:
            for seen in (view.jobs.get(uid), *view.pods_of(uid)):
                label = text(part(seen, "metadata", "labels"), "job-id")
                if label.isdigit():
                    ids.add(int(label))
        self.news.add(ids)

    def _is_of(self, there: Object, job: JobState) -> bool:
        meta = part(there, "metadata")
        ours = text(part(meta, "annotations"), LOG_ANNOTATION) == self.log_id
        return ours and text(part(meta, "labels"), "trace-id") == job.trace_id


def _whereabouts(job: JobState, attempt: int) -> tuple[str, str | None]:
    """Return the place and the Job's uid of the current attempt, or of the one before it."""
    if attempt == job.attempt:
        return str(job.place), job.uid
    return str(job.releasing_place), job.releasing_uid


async def _asked(work: Awaitable[T]) -> T:
    """Return what the cluster answers; a refusal is one more way of not having got it."""
    try:
        return await work
    except ClusterRefusesError as error:
        raise ExecutorUnavailableError(str(error)) from error


async def _within(work: Awaitable[T]) -> T | None:
    """Return what the work brings within its time, or None: evidence is worth no waiting."""
    try:
        async with asyncio.timeout(EVIDENCE_SECONDS):
            return await work
    except (ExecutorUnavailableError, ClusterRefusesError, TimeoutError):
        return None


def _is_only_inside(cluster: Cluster, kubeconfig: str | None) -> bool:
    """Return whether no kubeconfig leads to the cluster, and we run in one."""
    files = (kubeconfig or "~/.kube/config").split(os.pathsep)
    found = any(Path(file).expanduser().exists() for file in files if file)
    return cluster.context is None and not found and "KUBERNETES_SERVICE_HOST" in os.environ
