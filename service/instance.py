"""The parts of one running service, as the handlers and the supervisor need them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from projections.job import JobState
from projections.policy import Policy
from service.api_tokens import ApiTokens
from service.callback_tokens import CallbackTokens
from service.clusters import Clusters
from service.errors import JobIsImportedError
from service.event_log import EventLog
from service.executor import Executor
from service.feed import Feed
from service.imported import Imported
from service.lease import Candidate
from service.metrics import Metrics
from service.postgres import Database
from service.settings import Settings
from service.store import Store
from service.tracing import Tracing
from service.training_storage import Signing
from service.views import job_view


@dataclass(slots=True, kw_only=True)
class Instance:
    """Everything that one process serves with."""

    settings: Settings
    database: Database
    store: Store
    log: EventLog
    executor: Executor
    candidate: Candidate
    clusters: Clusters
    callback_tokens: CallbackTokens
    api_tokens: ApiTokens
    feed: Feed
    metrics: Metrics
    tracing: Tracing | None = None
    """What makes spans; None where nobody collects them."""
    signing: Signing | None = None
    """The bucket for which addresses are signed; None where trainers have keys of their own."""

    @property
    def policy(self) -> Policy:
        """The limits that the rules use here."""
        return self.log.policy

    @property
    def imported(self) -> Imported | None:
        """The job that was brought in from another log, if one was."""
        return self.log.senses.imported

    def check_own(self, job_id: int) -> None:
        """Raise JobIsImportedError for a job whose life goes on in another log."""
        if self.imported is not None and self.imported.job_id == job_id:
            raise JobIsImportedError(f"Job {job_id} was imported: here it can only be looked at.")

    def view(self, state: JobState, now: datetime) -> dict[str, Any]:
        """Return a job as it is now."""
        return job_view(state, self.log.senses.moment_of(state, now), self.policy)


def policy_of(settings: Settings) -> Policy:
    """Return the limits that the settings ask for."""
    return Policy(
        heartbeat_timeout=settings.heartbeat_timeout,
        stall_timeout=settings.stall_timeout,
        queue_timeout=settings.queue_timeout,
        done_grace=settings.done_grace,
        retry_backoff=settings.retry_backoff,
        cancel_grace=settings.cancel_grace,
        stop_grace=settings.stop_grace,
        max_interruptions=settings.max_interruptions,
        image_pull_grace=settings.image_pull_grace,
    )
