"""Callback tokens: what lets one attempt of one job call back, and nothing else."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt

from service.errors import (
    TokenExpiredError,
    TokenInvalidError,
    WrongJobError,
    WrongScopeError,
)
from service.request_schemas import BIGINT, INTEGER

SCOPE = "training-callback"
ALGORITHM = "HS256"
MOST_VERIFIED = 10_000
CLAIMS = ("job_id", "attempt", "scope", "iat", "exp", "jti")


@dataclass(frozen=True, slots=True)
class CallbackClaims:
    """What a verified token says; times in seconds since 1970."""

    job_id: int
    attempt: int
    issued_at: float
    expires_at: float
    jti: str

    def wants_renewal(self, now: float) -> bool:
        """Return whether less than half of the token's life is left."""
        return self.expires_at - now < (self.expires_at - self.issued_at) / 2

    def check_job(self, job_id: int) -> None:
        """Raise WrongJobError unless the token speaks for this job."""
        if self.job_id != job_id:
            raise WrongJobError(f"The token does not belong to job {job_id}.")


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token with what the log may know of it."""

    token: str
    claims: CallbackClaims


class CallbackTokens:
    """Issues tokens with one key and accepts those of older keys too."""

    def __init__(
        self, key: str, old_keys: Sequence[str] = (), *, ttl: float, renewal: float = 0
    ) -> None:
        """Take the keys (at least 32 bytes each), and in seconds the life of a token.

        For `renewal` seconds after its end it may still be exchanged for a fresh one.
        """
        self._kid = key_id(key)
        self._key = key
        self._keys = {key_id(known): known for known in (*old_keys, key)}
        self._ttl = ttl
        self._renewal = renewal
        self._renewed: dict[str, IssuedToken] = {}
        """What a token was exchanged for, by its jti: asked again, it gets the same."""
        self._verified: dict[str, CallbackClaims] = {}
        """Tokens whose signature was checked before; checking takes as long as recording."""

    def issue(self, job_id: int, attempt: int) -> IssuedToken:
        """Return a fresh token for this attempt."""
        now = time.time()
        claims = CallbackClaims(job_id, attempt, now, now + self._ttl, str(uuid.uuid4()))
        payload = {
            "job_id": job_id,
            "attempt": attempt,
            "scope": SCOPE,
            "iat": claims.issued_at,
            "exp": claims.expires_at,
            "jti": claims.jti,
        }
        token = jwt.encode(payload, self._key, ALGORITHM, headers={"kid": self._kid})
        return IssuedToken(token, claims)

    def verify(self, token: str) -> CallbackClaims:
        """Return the claims of a callback token of ours.

        Raises TokenInvalidError, TokenExpiredError or WrongScopeError.
        """
        known = self._verified.get(token)
        if known is not None:
            if known.expires_at <= time.time():
                raise TokenExpiredError
            return known
        payload = self._decoded(token)
        if payload["scope"] != SCOPE:
            raise WrongScopeError(f"The token's scope is not {SCOPE}.")
        claims = _claims(payload)
        if len(self._verified) >= MOST_VERIFIED:
            self._verified.clear()
        self._verified[token] = claims
        return claims

    def verify_renewable(self, token: str) -> CallbackClaims:
        """Return the claims of a callback token of ours that may be over, but not for too long.

        Raises as `verify` does.
        """
        try:
            return self.verify(token)
        except TokenExpiredError:
            payload = self._decoded(token, expired=True)
        if payload["scope"] != SCOPE:
            raise WrongScopeError(f"The token's scope is not {SCOPE}.")
        claims = _claims(payload)
        if claims.expires_at + self._renewal <= time.time():
            raise TokenExpiredError
        return claims

    def successor(self, claims: CallbackClaims) -> IssuedToken | None:
        """Return what a token was exchanged for here, while that is fresh."""
        known = self._renewed.get(claims.jti)
        if known is None or known.claims.wants_renewal(time.time()):
            return None
        return known

    def exchanged(self, claims: CallbackClaims, fresh: IssuedToken) -> None:
        """Remember what a token was exchanged for."""
        if len(self._renewed) >= MOST_VERIFIED:
            self._renewed.clear()
        self._renewed[claims.jti] = fresh

    def _decoded(self, token: str, *, expired: bool = False) -> dict[str, Any]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = self._keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise TokenInvalidError("The token's header names no key (kid) that is known here.")
            # A replica whose clock is a little ahead must not make a new token look unborn.
            payload: dict[str, Any] = jwt.decode(
                token,
                key,
                [ALGORITHM],
                options={
                    "require": list(CLAIMS),
                    "verify_iat": False,
                    "verify_exp": not expired,
                },
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenExpiredError from error
        except (jwt.PyJWTError, ValueError) as error:
            said = str(error).rstrip(".")
            raise TokenInvalidError(f"The token is not one of ours: {said}.") from error
        return payload


def key_id(key: str) -> str:
    """Return the public name of a key: it tells keys apart and gives nothing away."""
    return hashlib.sha256(b"epochlog kid " + key.encode()).hexdigest()[:16]


def _claims(payload: dict[str, Any]) -> CallbackClaims:
    job_id, attempt, jti = payload["job_id"], payload["attempt"], payload["jti"]
    times = payload["iat"], payload["exp"]
    if not (_is_count(job_id, BIGINT) and _is_count(attempt, INTEGER) and isinstance(jti, str)):
        raise TokenInvalidError("The token's job_id and attempt must be whole numbers from 1.")
    if not all(_is_time(moment) for moment in times):
        raise TokenInvalidError("The token's iat and exp must be seconds since 1970.")
    return CallbackClaims(job_id, attempt, float(times[0]), float(times[1]), jti)


def _is_count(value: object, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


def _is_time(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value <= BIGINT  # neither NaN nor infinite
