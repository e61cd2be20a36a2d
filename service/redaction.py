"""Secrets that a training printed: found by how they look, and taken out of what is passed on."""

from __future__ import annotations

import re

MARK = "[redacted]"

# Each alternative keeps its group, which says what was there. Every repetition that may begin in
# many places is bounded: what is searched was written by others.
_SECRETS = re.compile(
    r"(?P<header>\b(?:bearer|basic)[ :=]{1,3})[A-Za-z0-9._~+/-]{8,}=*"
    r"|(?P<jwt>)(?<![\w-])eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*"
    r"|(?P<prefix>(?<![\w-])(?:epl_|hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abprs]-))[\w-]{16,}"
    r"|(?P<aws>)\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|(?P<login>://[^\s/:@]{0,200}:)(?!\[redacted\])[^\s/@]{1,500}(?=@)"
    r"|(?P<named>(?:secret|passw(?:or)?d|passphrase|(?:api|access|private)[_-]?key"
    r"|(?:auth|callback|api|access)[_-]?token)"
    r"[a-z0-9_.-]{0,40}[\"']?\s{0,4}[:=]\s{0,4}[\"']?)(?!\[redacted\])[^\s\"',;&]{4,}",
    re.IGNORECASE | re.ASCII,
)


# One of them is in every text that holds a secret; to look for them is quick.
_SIGNS = (
    "bearer", "basic", "eyj", "epl_", "hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_",
    "glpat-", "sk-", "xox", "akia", "asia", "://", "secret", "passw", "passphrase", "key", "token",
)  # fmt: skip


def redact(text: str) -> tuple[str, int]:
    """Return the text without what looks like a secret, and how often something did."""
    return _SECRETS.subn(lambda found: _kept(found) + MARK, text)


def recordable(text: str) -> str:
    """Return what of a text may be recorded for good: no secrets, and nothing that jsonb refuses.

    PostgreSQL's jsonb takes no NUL and no half of a surrogate pair.
    """
    return redact(text.replace("\0", "").encode(errors="replace").decode())[0]


def seems_to_hold_a_secret(text: str) -> bool:
    """Return whether something in the text looks like a secret."""
    lower = text.lower()
    return any(sign in lower for sign in _SIGNS) and _SECRETS.search(text) is not None


def _kept(found: re.Match[str]) -> str:
    return found.group(found.lastgroup) if found.lastgroup else ""
