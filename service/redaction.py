"""Secrets that a training printed: found by how they look, and taken out of what is passed on."""

from __future__ import annotations

import re

MARK = "[redacted]"

# Each keeps its first group, which says what was there.
_SECRETS = re.compile(
    r"(?P<bearer>\b(?:bearer|basic)[ :=]+)[A-Za-z0-9._~+/-]{8,}=*"
    r"|(?P<token>)\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"
    r"|(?P<ours>\bepl_)[A-Za-z0-9_-]{20,}"
    r"|(?P<known>)\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|(?P<vendor>\b(?:hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abprs]-))[A-Za-z0-9_-]{16,}"
    r"|(?P<login>\b[a-z][a-z0-9+.-]*://)[^\s/:@]*:[^\s/@]+(?=@)"
    r"|(?P<named>\b[a-z0-9_.-]*(?:secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|auth[_-]?token|callback[_-]?token|api[_-]?token|access[_-]?token)"
    r"[a-z0-9_.-]*[\"']?\s*[:=]\s*[\"']?)(?!\[redacted\])[^\s\"',;&]{4,}",
    re.IGNORECASE,
)


def redact(text: str) -> tuple[str, int]:
    """Return the text without what looks like a secret, and how often something did."""
    return _SECRETS.subn(lambda found: _kept(found) + MARK, text)


def seems_to_hold_a_secret(text: str) -> bool:
    """Return whether something in the text looks like a secret."""
    return _SECRETS.search(text) is not None


def _kept(found: re.Match[str]) -> str:
    return found.group(found.lastgroup) if found.lastgroup else ""
