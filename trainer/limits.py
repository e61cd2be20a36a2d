"""What the service takes in one callback, and how one that holds more is made to fit. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

MOST_METRICS, LONGEST_METRIC = 1000, 200
MOST_ARTIFACTS, LONGEST_NAME, LONGEST_URI = 1000, 300, 2000
LONGEST_CODE, LONGEST_MESSAGE = 100, 2000
LONGEST_RUN_ID = 200
# The service refuses bodies over 256 KiB; the rest is room for the envelope.
MOST_BYTES = 200 * 1024
SHA256, LARGEST = re.compile("[0-9a-fA-F]{64}"), 2**63 - 1
ENVELOPE = frozenset({"event_id", "seq", "occurred_at", "trace_id"})

Body = dict[str, Any]


def fitted(kind: str, body: Body) -> Body:
    """Return a callback's body as the service takes it; `left_out` counts what it no longer holds.

    Events are left as they are: what may go from one, only whoever says it can judge.
    """
    kept = dict(body)
    if "metrics" in body and kind != "event":
        named = ((name, value) for name, value in body["metrics"].items() if _may_name(name))
        kept["metrics"] = dict(list(named)[:MOST_METRICS])
    if kind == "done":
        kept = _fitted_done(kept)
    left_out = _left_out(body, kept)
    return {**kept, "left_out": left_out} if left_out else kept


def verdict_of(body: Mapping[str, Any]) -> Body:
    """Return what a last word says of the status and its error, and nothing else."""
    verdict: Body = {"status": body["status"]}
    error = body.get("error")
    if isinstance(error, Mapping):
        verdict["error"] = {
            "code": str(error.get("code") or "error")[:LONGEST_CODE],
            "message": str(error.get("message", ""))[:LONGEST_MESSAGE],
            "retryable": error.get("retryable") is not False,
        }
    return verdict


def is_bare(body: Mapping[str, Any]) -> bool:
    """Return whether a last word is its verdict already."""
    said = {name: value for name, value in body.items() if name not in ENVELOPE}
    return said == verdict_of(body)


def encoded(body: Any) -> bytes:
    """Return the body as JSON that the service reads, without NUL and halves of characters.

    Raises ValueError and TypeError for what JSON cannot say.
    """
    text = json.dumps(body, allow_nan=False, ensure_ascii=False)
    if r"\u0000" in text:
        text = json.dumps(_without_nul(body), allow_nan=False, ensure_ascii=False)
    return text.encode(errors="replace")


def _fitted_done(body: Body) -> Body:
    kept = {**body, **verdict_of(body)}
    if len(kept.get("mlflow_run_id", "")) > LONGEST_RUN_ID:
        del kept["mlflow_run_id"]
    if "artifacts" in body:
        sound = [_sound(one) for one in body["artifacts"] if _is_named(one)]
        kept["artifacts"] = sound[:MOST_ARTIFACTS]
    while len(encoded(kept)) > MOST_BYTES and (name := _largest(kept)) is not None:
        kept[name] = _first_half(kept[name])
    return kept


def _left_out(body: Body, kept: Body) -> dict[str, int]:
    """Return how many of each field are gone; `facts` are those of the artifacts that are left."""
    counts = {name: 1 for name in body if name not in kept}
    for name in ("metrics", "artifacts"):
        if name in kept:
            counts[name] = len(body[name]) - len(kept[name])
    facts = sum(len(_wrong_facts(one)) for one in body.get("artifacts", ()) if _is_named(one))
    return {name: count for name, count in {**counts, "facts": facts}.items() if count}


def _largest(body: Body) -> str | None:
    """Return which of the lists of a body takes most of it; None where all are empty."""
    sizes = {name: len(encoded(body[name])) for name in ("metrics", "artifacts") if body.get(name)}
    return max(sizes, key=lambda name: sizes[name], default=None)


def _first_half(things: Any) -> Any:
    half = len(things) // 2
    return dict(list(things.items())[:half]) if isinstance(things, dict) else things[:half]


def _may_name(name: str) -> bool:
    return 0 < len(name) <= LONGEST_METRIC


def _is_named(artifact: Mapping[str, Any]) -> bool:
    name, uri = artifact.get("name"), artifact.get("uri")
    return (
        isinstance(name, str)
        and isinstance(uri, str)
        and 0 < len(name) <= LONGEST_NAME
        and 0 < len(uri) <= LONGEST_URI
    )


def _sound(artifact: Mapping[str, Any]) -> Body:
    wrong = _wrong_facts(artifact)
    return {name: value for name, value in artifact.items() if name not in wrong}


def _wrong_facts(artifact: Mapping[str, Any]) -> set[str]:
    """Return which facts are no hash, or no size."""
    size = artifact.get("bytes")
    plain = isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= LARGEST
    return {
        *(() if plain or size is None else ("bytes",)),
        *(() if _is_sha256(artifact.get("sha256")) else ("sha256",)),
    }


def _is_sha256(value: Any) -> bool:
    return value is None or (isinstance(value, str) and SHA256.fullmatch(value) is not None)


def _without_nul(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        case dict():
            return {_without_nul(name): _without_nul(item) for name, item in value.items()}
        case list() | tuple():
            return [_without_nul(item) for item in value]
        case _:
            return value
