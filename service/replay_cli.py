# ruff: noqa: PLC0415 - the command loads its libraries when it runs, so that help is there at once
"""The command `replay`: its options, and which of them go together."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer

YEAR = 365 * 24 * 3600
Limit = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS", min=0.001, max=YEAR, help="Back-test: what this limit would have said."
    ),
]
TIMERS = ("heartbeat_timeout", "stall_timeout", "retry_backoff")


def replay(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare; change nothing; exit 1 on a difference.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="With --check: only where each job stands.")
    ] = False,
    with_rules: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="MODULE:ATTRIBUTE",
            help="List the jobs that other rules would change.",
        ),
    ] = None,
    fail_on_difference: Annotated[
        bool, typer.Option("--fail-on-difference", help="With --with: exit 1 if there are any.")
    ] = False,
    heartbeat_timeout: Limit = None,
    stall_timeout: Limit = None,
    retry_backoff: Limit = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only what went on since then (RFC 3339; UTC without an offset).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Fold the log again: rebuild the projections, or ask what other rules would have said."""
    from service import replaying, running

    timers = (heartbeat_timeout, stall_timeout, retry_backoff)
    limits = {name: limit for name, limit in zip(TIMERS, timers, strict=True) if limit is not None}
    _refuse_mixed_modes(
        check=check,
        quick=quick,
        rules=with_rules,
        fails=fail_on_difference,
        limits=limits,
        since=since,
    )
    moment = _moment(since) if since is not None else None
    if with_rules:
        rules = _rules(with_rules)
        diff = partial(replaying.reducer_diff, rules=rules, since=moment, fails=fail_on_difference)
        return running.run(partial(diff, as_json=as_json))
    if limits:
        test = partial(replaying.backtest, limits=limits, since=moment, as_json=as_json)
        return running.run(test)
    return running.run(partial(replaying.replay, only_check=check, quick=quick, as_json=as_json))


def _refuse_mixed_modes(
    *,
    check: bool,
    quick: bool,
    rules: str | None,
    fails: bool,
    limits: dict[str, float],
    since: str | None,
) -> None:
    wrong = {
        "--check, --with and the limits of a back-test exclude each other.": (
            sum((check, bool(rules), bool(limits))) > 1
        ),
        "--quick needs --check.": quick and not check,
        "--fail-on-difference needs --with.": fails and not rules,
        "--since needs --with or a limit to test.": since and not (rules or limits),
    }
    for sentence, is_so in wrong.items():
        if is_so:
            raise typer.BadParameter(sentence)


def _moment(text: str) -> datetime:
    from service.request_schemas import parse_time

    try:
        moment = datetime.fromisoformat(text)
        return parse_time((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat())
    except ValueError as error:
        wanted = "a time such as 2026-11-23 or 2026-11-23T02:14:00Z"
        raise typer.BadParameter(f"--since needs {wanted}.") from error


def _rules(named: str) -> Any:
    from projections.rule_set import RuleSetError
    from service.replaying import load_rules

    try:
        return load_rules(named)
    except RuleSetError as error:
        raise typer.BadParameter(f"--with: {error}.") from error
