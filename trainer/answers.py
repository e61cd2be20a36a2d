"""What an HTTP answer of the service means for the callbacks it answers. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from trainer.backoff import retry_after

TRY_AGAIN = frozenset({408, 425, 429})
# What whoever stands before the service says of itself while there is no service behind it.
ELSEWHERE = frozenset({401, 404, 405, 407, 410})


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Recorded, durably. The token, where there is one, is the one to use from now on."""

    directive: str
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """Not recorded, or not known to be; the same bytes must be sent again."""

    why: str
    after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Sending the same again would be refused again."""

    status: int
    code: str
    detail: str

    @property
    def about_the_caller(self) -> bool:
        """Whether it is the token or its job that is refused, and not what was said."""
        return self.status in {401, 404} or (self.status == 403 and bool(self.code))


@dataclass(frozen=True, slots=True)
class Expired:
    """The token's time is over: nothing more can be sent."""


Answer: TypeAlias = Delivered | TryAgain | Refused | Expired


def read_answer(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Answer:
    """Return what became of the callbacks that were sent."""
    content = _json_object(body)
    if 200 <= status < 300:
        return _read_success(content)
    if status in TRY_AGAIN or status >= 500 or status < 400:
        return TryAgain(why=f"HTTP {status}", after=retry_after(headers.get("Retry-After"), now))
    code = str((content or {}).get("code", ""))
    if not code and status in ELSEWHERE:
        return TryAgain(why=f"HTTP {status} of somebody who is not the service")
    if status == 401 and code == "token_expired":
        return Expired()
    return Refused(status=status, code=code, detail=str((content or {}).get("detail", "")))


def _read_success(content: dict[str, Any] | None) -> Answer:
    # A proxy's friendly page is no receipt: only the service's own JSON says that it was written.
    if content is None:
        return TryAgain(why="an answer that is not the service's JSON")
    token = content.get("token") or content.get("callback_token")
    return Delivered(
        directive=str(content.get("directive", "continue")),
        token=token if isinstance(token, str) and token else None,
    )


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(body)
    except ValueError:
        return None
    return content if isinstance(content, dict) else None
