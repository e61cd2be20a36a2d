"""Tokens of the control API: who may read, operate and administer."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from service.errors import TokenInvalidError
from service.store import Store

PREFIX = "epl_"


class Role(IntEnum):
    """What a caller may do; each may do what the ones before it may."""

    VIEWER = 1  # reads
    OPERATOR = 2  # creates and cancels jobs, issues callback tokens
    ADMIN = 3  # makes API tokens

    @classmethod
    def named(cls, name: str) -> Role:
        """Return the role of this name, as the API spells it."""
        return cls[name.upper()]


@dataclass(frozen=True, slots=True)
class NewApiToken:
    """A token that was just made: the only time that it can be seen."""

    id: int
    token: str
    name: str
    role: str
    created_at: datetime


class ApiTokens:
    """Makes tokens and knows them again by their hash."""

    def __init__(self, store: Store, admin_token: str) -> None:
        """Take the token that is admin by the settings."""
        self._store = store
        self._admin = admin_token.encode()

    async def role_of(self, token: str) -> Role:
        """Return the token's role, or raise TokenInvalidError."""
        if hmac.compare_digest(token.encode(errors="replace"), self._admin):
            return Role.ADMIN
        # The tokens are random, so one round of a plain hash keeps them as safe as many would.
        role = await self._store.api_token_role(_digest(token))
        if role is None:
            raise TokenInvalidError("The API token is not one of ours.")
        return Role.named(role)

    async def create(self, name: str, role: str) -> NewApiToken:
        """Make a token and keep its hash."""
        token = PREFIX + secrets.token_urlsafe(32)
        number, created_at = await self._store.add_api_token(name, role, _digest(token))
        return NewApiToken(number, token, name, role, created_at)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
