"""All that a cluster shows of one attempt at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from projections.objects import (
    Object,
    condition,
    moment_of,
    number,
    part,
    said_at,
    text,
    time,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All that a cluster shows of one attempt."""

    job: Object | None
    """None where it was confirmed that there is none of the attempt's uid."""
    pods: Sequence[Object] = ()
    """The pods of that Job, in the last version that was seen of each."""
    gone: frozenset[str] = frozenset()
    """The uids of those among them that are not there any more."""
    warnings: Sequence[Object] = ()
    """Core Events about the Job, the newest last."""


def wants_no_pod(job: Object) -> bool:
    """Return whether the Job is suspended, or scaled to none."""
    spec = part(job, "spec")
    return spec.get("suspend") is True or number(spec, "parallelism") == 0


def lacks_a_pod(job: Object | None, pods: int, gone: int) -> bool:
    """Return whether a pod is to be there and is not: then the cluster may have words about it."""
    if job is None or wants_no_pod(job) or condition(job, "Failed", "Complete"):
        return False
    return pods == gone


def refusal_since(look: Look, last: Object | None) -> str | None:
    """Return why no pod is made, or none after the last; None where nothing was refused since."""
    made_at = time(part(last, "metadata"), "creationTimestamp")
    for warning in reversed(look.warnings):
        at = moment_of(said_at(warning))
        is_old = made_at is not None and (at is None or at < made_at)
        if text(warning, "reason") == "FailedCreate" and not is_old:
            return text(warning, "message") or "The cluster refuses to make the pod."
    return None
