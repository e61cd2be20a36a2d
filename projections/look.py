"""All that a cluster shows of one attempt at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from projections.objects import Object, moment_of, part, said_at, text, time


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


def refusal_since(look: Look, last: Object | None) -> str | None:
    """Return why no pod is made, or none after the last; None where nothing was refused since."""
    made_at = time(part(last, "metadata"), "creationTimestamp")
    for warning in reversed(look.warnings):
        at = moment_of(said_at(warning))
        is_old = made_at is not None and (at is None or at < made_at)
        if text(warning, "reason") == "FailedCreate" and not is_old:
            return text(warning, "message") or "The cluster refuses to make the pod."
    return None
