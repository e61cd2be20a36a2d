"""What was last seen of a cluster: its Jobs, and their pods in the last version of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from projections.objects import Object, name_of, owner_of, part, uid_of, version_of

_HEAVY = ("managedFields",)
"""Parts of an object that say nothing to us and are often the most of it."""


@dataclass(slots=True)
class ClusterView:
    """A memory of objects by uid; what was told twice, too late or out of order changes nothing."""

    jobs: dict[str, Object] = field(default_factory=dict)
    gone_pods: set[str] = field(default_factory=set)
    _pods: dict[str, dict[str, Object]] = field(default_factory=dict)
    """By the uid of their Job, then by their own."""
    _gone_jobs: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        """How many objects are remembered."""
        return len(self.jobs) + sum(map(len, self._pods.values()))

    @property
    def pods(self) -> Iterator[Object]:
        """Every pod, those included that are gone."""
        for pods in self._pods.values():
            yield from pods.values()

    def pods_of(self, job_uid: str) -> list[Object]:
        """Return the pods of a Job, those included that are gone."""
        return list(self._pods.get(job_uid, {}).values())

    def job_named(self, name: str) -> Object | None:
        """Return the Job of this name, if one is there."""
        return next((job for job in self.jobs.values() if name_of(job) == name), None)

    def see_job(self, job: Object) -> str | None:
        """Take a Job as it is now; return its uid where that is news."""
        uid = uid_of(job)
        if not uid or uid in self._gone_jobs or not _is_newer(job, self.jobs.get(uid)):
            return None
        self.jobs[uid] = _light(job)
        return uid

    def lose_job(self, uid: str) -> str | None:
        """Note that a Job is not there any more; return its uid where that is news."""
        self._gone_jobs.add(uid)
        return uid if self.jobs.pop(uid, None) is not None else None

    def see_pod(self, pod: Object) -> str | None:
        """Take a pod as it is now; return its Job's uid where that is news."""
        uid, owner = uid_of(pod), owner_of(pod)
        known = self._pods.get(owner, {})
        if not uid or not owner or uid in self.gone_pods or not _is_newer(pod, known.get(uid)):
            return None
        self._pods.setdefault(owner, known)[uid] = _light(pod)
        return owner

    def lose_pod(self, pod: Object) -> str | None:
        """Note that a pod is gone, and how it was at last; return its Job's uid if that is news."""
        uid, owner = uid_of(pod), owner_of(pod)
        if not uid or not owner or uid in self.gone_pods:
            return None
        known = self._pods.setdefault(owner, {})
        if _is_newer(pod, known.get(uid)):
            known[uid] = _light(pod)
        self.gone_pods.add(uid)
        return owner

    def list_jobs(self, jobs: Iterable[Object]) -> set[str]:
        """Take all Jobs that are there; return the uids of those about which this is news."""
        listed = {uid_of(job): job for job in jobs}
        news = {uid for uid in self.jobs if uid not in listed}
        for uid in news:
            self.lose_job(uid)
        for uid, job in listed.items():
            self._gone_jobs.discard(uid)
            if version_of(self.jobs.get(uid, {})) != version_of(job):
                self.jobs[uid] = _light(job)  # a version may be lower where a backup was restored
                news.add(uid)
        return news

    def list_pods(self, pods: Iterable[Object]) -> set[str]:
        """Take all pods that are there; return the uids of the Jobs about which this is news."""
        listed = {uid_of(pod): pod for pod in pods if owner_of(pod)}
        news = set()
        for owner, known in self._pods.items():
            for uid in known:
                if uid not in listed and uid not in self.gone_pods:
                    self.gone_pods.add(uid)
                    news.add(owner)
        for uid, pod in listed.items():
            self.gone_pods.discard(uid)
            known = self._pods.setdefault(owner_of(pod), {})
            if version_of(known.get(uid, {})) != version_of(pod):
                known[uid] = _light(pod)
                news.add(owner_of(pod))
        return news

    def forget_all_but(self, job_uids: set[str]) -> None:
        """Drop what is not there any more, but for the pods of these Jobs."""
        for owner in [owner for owner in self._pods if owner not in job_uids]:
            pods = self._pods[owner]
            for uid in [uid for uid in pods if uid in self.gone_pods]:
                del pods[uid]
            if not pods:
                del self._pods[owner]
        self._gone_jobs &= job_uids
        self.gone_pods &= {uid for pods in self._pods.values() for uid in pods}


def _is_newer(seen: Object, known: Object | None) -> bool:
    """Return whether this is another version than the known, and not one of before it.

    Versions are opaque in theory and growing numbers in every cluster; only numbers are compared.
    """
    if known is None:
        return True
    one, other = version_of(seen), version_of(known)
    if one.isdigit() and other.isdigit():
        return int(one) > int(other)
    return one != other


def _light(seen: Object) -> Object:
    metadata: Mapping[str, Any] = part(seen, "metadata")
    return {
        **seen,
        "metadata": {name: value for name, value in metadata.items() if name not in _HEAVY},
    }
