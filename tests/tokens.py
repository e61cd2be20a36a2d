"""Callback tokens made by hand, right and wrong ones: no library stands between test and claim."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from unittest.mock import sentinel

from service.callback_tokens import key_id
from tests.conftest import SECRET_KEY

ABSENT: Any = sentinel.absent
"""Stands for a claim or a header field that is left out."""


def claims(own_job: object, /, **changed: object) -> dict[str, Any]:
    """The claims of a token that is valid for ten minutes, with the changes."""
    now = int(time.time())
    valid = {
        "job_id": own_job,
        "attempt": 1,
        "scope": "training-callback",
        "iat": now,
        "exp": now + 600,
        "jti": str(uuid.uuid4()),
    }
    return _without_absent({**valid, **changed})


def token(
    payload: object,
    *,
    key: str = SECRET_KEY,
    digest: Callable[..., Any] = hashlib.sha256,
    signature: bytes | None = None,
    **header: object,
) -> str:
    """A signed token; `header` changes fields of its header."""
    head = {"alg": "HS256", "typ": "JWT", "kid": key_id(SECRET_KEY), **header}
    parts = [_coded(json.dumps(part).encode()) for part in (_without_absent(head), payload)]
    signed = hmac.new(key.encode(), ".".join(parts).encode(), digest).digest()
    return ".".join([*parts, _coded(signed if signature is None else signature)])


def _without_absent(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not ABSENT}


def _coded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
