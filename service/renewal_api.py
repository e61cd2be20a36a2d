"""The route on which a trainer renews its callback token, also one that has expired."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from projections.decide import RenewToken
from service.callback_tokens import CallbackClaims, IssuedToken
from service.errors import TokenInvalidError
from service.request_schemas import NoQuery
from service.routing import Call, Reply


async def renew_token(call: Call[None, NoQuery]) -> Reply:
    """Exchange the token for a fresh one of the same attempt; one that is fresh is given back."""
    call.instance.check_own(call.job_id)
    if not call.caller.wants_renewal(time.time()):
        given = call.headers["Authorization"].partition(" ")[2].strip()
        return _reply(IssuedToken(given, call.caller))
    tokens = call.instance.callback_tokens
    return _reply(tokens.successor(call.caller) or await _renewed(call, call.caller))


async def _renewed(call: Call[None, NoQuery], claims: CallbackClaims) -> IssuedToken:
    """Issue a token, and have that in the log before anybody has it."""
    tokens = call.instance.callback_tokens
    fresh = tokens.issue(claims.job_id, claims.attempt)
    command = RenewToken(
        attempt=claims.attempt,
        jti=fresh.claims.jti,
        expires_at=_expiry(fresh).isoformat(),
    )
    outcome = await call.instance.log.handle(claims.job_id, command)
    if not outcome.records:
        raise TokenInvalidError(f"Job {claims.job_id} has no attempt {claims.attempt}.")
    tokens.exchanged(claims, fresh)
    return fresh


def _reply(issued: IssuedToken) -> Reply:
    return Reply(
        payload={
            "callback_token": issued.token,
            "attempt": issued.claims.attempt,
            "expires_at": _expiry(issued),
        }
    )


def _expiry(issued: IssuedToken) -> datetime:
    return datetime.fromtimestamp(issued.claims.expires_at, UTC)
