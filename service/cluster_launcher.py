"""Makes an attempt's Job and Secret in one cluster: each of them once, however often asked."""

from __future__ import annotations

import time
from collections.abc import Set
from dataclasses import dataclass, field
from http import HTTPStatus

from projections.objects import Object, is_deleting, name_of, part, text, uid_of
from service.cluster_client import (
    JOBS,
    SECRETS,
    ClusterClient,
    ClusterForbidsError,
    ClusterRefusesError,
    ClusterUnavailableError,
)
from service.clusters import Cluster
from service.executor import Launch, LaunchHeldError, LaunchRefusedError
from service.job_template import LOG_ANNOTATION, JobTemplate, names, token_secret

HOLD_SECONDS, LONGEST_HOLD = 5.0, 60.0
OUTAGE_SECONDS = 0.5
LONG_OUTAGE_SECONDS = 4.0
"""A launch that fails for so long a pause between two tries is told of."""


@dataclass(slots=True)
class _Hold:
    """A launch that did not come through, and when it is tried again."""

    error: LaunchHeldError | ClusterUnavailableError
    seconds: float
    until: float


@dataclass(slots=True)
class ClusterLauncher:
    """Launches attempts in one cluster, and waits where that says so."""

    client: ClusterClient
    cluster: Cluster
    template: JobTemplate
    image: str
    holds: dict[str, _Hold] = field(default_factory=dict)
    """By the Job's name."""

    async def launch(self, launch: Launch, *, log_id: str) -> Object:
        """Make the Job, then the Secret that it owns, and return the Job.

        Raises LaunchRefusedError, LaunchHeldError or ClusterUnavailableError.
        """
        name = names(launch.job_id, launch.attempt).job
        hold = self.holds.get(name)
        if hold is not None and time.monotonic() < hold.until:
            raise hold.error
        body = self.template.render(launch, cluster=self.cluster, image=self.image, log_id=log_id)
        try:
            job = await self._make_job(body)
            await self._make_secret(job, launch)
        except LaunchHeldError as error:
            self._hold(name, error, HOLD_SECONDS)
            raise
        except ClusterUnavailableError as error:
            raise self._delayed(name, error) from error
        self.holds.pop(name, None)
        return job

    def _hold(
        self, name: str, error: LaunchHeldError | ClusterUnavailableError, first: float
    ) -> float:
        """Have the launch wait, ever longer; for how long."""
        before = self.holds.get(name)
        seconds = min(2 * before.seconds, LONGEST_HOLD) if before else first
        self.holds[name] = _Hold(error, seconds, time.monotonic() + seconds)
        return seconds

    def _delayed(
        self, name: str, error: ClusterUnavailableError
    ) -> LaunchHeldError | ClusterUnavailableError:
        """Have the launch wait as long as the server asks; of an outage that lasts it is told."""
        first = min(error.retry_after or OUTAGE_SECONDS, LONGEST_HOLD)
        if self._hold(name, error, first) < LONG_OUTAGE_SECONDS:
            return error
        self.holds[name].error = LaunchHeldError("launch_delayed", str(error))
        return self.holds[name].error

    def keep(self, job_names: Set[str]) -> None:
        """Forget what was held of other Jobs than these."""
        self.holds = {name: hold for name, hold in self.holds.items() if name in job_names}

    async def _make_job(self, body: Object) -> Object:
        try:
            return await self.client.create(JOBS, body)
        except ClusterForbidsError as error:
            raise LaunchHeldError("forbidden", str(error)) from error
        except ClusterRefusesError as error:
            refusal = error
        # A quota refuses the name that has it filled, before anybody looks whether it is taken.
        is_taken = refusal.status == HTTPStatus.CONFLICT
        if is_taken or _is_quota(refusal):
            there = await self.client.job(name_of(body))
            if there is not None:
                return self._made_before(there, body)
        if not is_taken:
            raise _refusal(refusal) from refusal
        raise ClusterUnavailableError(f"Job {name_of(body)} came and went while it was looked at.")

    def _made_before(self, there: Object, body: Object) -> Object:
        """Return the Job of this name: made by us, though the answer never came."""
        name = name_of(body)
        if not _is_alike(there, body):
            raise LaunchRefusedError(
                f"The name {name} is taken by a Job that this log knows nothing of"
                f" (uid {uid_of(there)})."
            )
        if is_deleting(there):
            raise LaunchHeldError("name_taken", f"An older Job {name} is still being deleted.")
        return there

    async def _make_secret(self, job: Object, launch: Launch) -> None:
        """Make the Secret with the token; where it cannot be, the Job must not stay and wait."""
        called = names(launch.job_id, launch.attempt)
        body = token_secret(
            job_name=called.job,
            job_uid=uid_of(job),
            secret_name=called.secret,
            token=launch.environment["CALLBACK_TOKEN"],
            labels=dict(part(job, "metadata", "labels")),
        )
        try:
            await self.client.create(SECRETS, body)
        except ClusterForbidsError as error:
            await self.client.delete_job(called.job, uid_of(job))
            raise LaunchHeldError("forbidden", str(error)) from error
        except ClusterRefusesError as error:
            if error.status == HTTPStatus.CONFLICT:  # made before, for the same attempt
                return
            await self.client.delete_job(called.job, uid_of(job))
            raise _refusal(error) from error


def _is_alike(there: Object, body: Object) -> bool:
    """Return whether a Job of the same name is the one that we would have made."""
    return all(
        text(part(there, "metadata", where), name) == text(part(body, "metadata", where), name)
        for where, name in (
            ("labels", "trace-id"),
            ("labels", "job-id"),
            ("annotations", LOG_ANNOTATION),
        )
    )


def _is_quota(error: ClusterRefusesError) -> bool:
    return "exceeded quota" in str(error)


def _refusal(error: ClusterRefusesError) -> LaunchHeldError | LaunchRefusedError:
    """Tell what may pass, a quota that is used up, from what will be refused again."""
    words = str(error)
    if _is_quota(error):
        return LaunchHeldError("quota_exceeded", words)
    if error.status == HTTPStatus.NOT_FOUND or "it is being terminated" in words:
        return LaunchHeldError("namespace_missing", words)
    return LaunchRefusedError(words)
