"""The command `replay`: fold the log again, by these rules or by others, and say what differs."""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from rich.console import Console

from projections.backtest import Backtest
from projections.lifelines import Lifelines
from projections.policy import Policy
from projections.rule_set import Parting, Rules, RuleSetError, Twofold, complete
from service.comparing import Comparison
from service.histories import of_each_job
from service.instance import policy_of
from service.logs import configure_logs
from service.opening import database_url
from service.page import print_json, print_page
from service.postgres import owner_session
from service.rebuilding import check, rebuild
from service.replay_page import backtest_page, comparison_page, partings_page, progress
from service.running import DONE, FAILED, CommandError
from service.settings import Settings
from service.standings import quick_check


async def replay(
    settings: Settings, console: Console, *, only_check: bool, quick: bool, as_json: bool
) -> int:
    """Rebuild the projections, or only compare them with what the log makes."""
    configure_logs("CRITICAL")
    begun = time.monotonic()
    async with database_url(settings) as url:
        with progress("folding") as tell:
            work = check if only_check else rebuild
            found = await (quick_check(url) if quick else work(url, tell))
    seconds = time.monotonic() - begun
    if as_json:
        print_json(_told(found, seconds, switched=not only_check))
    else:
        print_page(console, comparison_page(found, seconds, switched=not only_check))
    return FAILED if only_check and not found.is_clean else DONE


def _told(found: Comparison, seconds: float, *, switched: bool) -> dict[str, Any]:
    return {
        "equal": found.is_clean,
        "switched": switched,
        "seconds": round(seconds, 3),
        "rows": found.rows,
        "differing": found.differing,
        "first": [asdict(difference) for difference in found.first],
    }


async def reducer_diff(
    settings: Settings,
    console: Console,
    *,
    rules: Callable[[Policy], Rules],
    since: datetime | None,
    fails: bool,
    as_json: bool,
) -> int:
    """List each job that would have gone another way by other rules."""
    configure_logs("CRITICAL")
    policy = policy_of(settings)
    begin = partial(Twofold, Rules(policy=policy), rules(policy))
    partings: list[Parting] = []
    jobs = 0
    async with database_url(settings) as url, owner_session(url) as session:
        with progress("folding twice") as tell:
            try:
                async for parting in of_each_job(session, begin, since=since, tell=tell):
                    jobs += 1
                    partings.extend([parting] if parting else [])
            except RuleSetError as error:
                raise CommandError(f"The rules of --with failed: {error}.") from error
    if as_json:
        print_json({"jobs": jobs, "differing": [asdict(one) for one in partings]})
    else:
        print_page(console, partings_page(partings, jobs))
    return FAILED if fails and partings else DONE


async def backtest(
    settings: Settings,
    console: Console,
    *,
    limits: Mapping[str, Any],
    since: datetime | None,
    as_json: bool,
) -> int:
    """Say what other timeouts would have said of the attempts in the log."""
    configure_logs("CRITICAL")
    policy = policy_of(settings)
    present, other = Backtest(policy=policy), Backtest(policy=replace(policy, **limits))
    async with database_url(settings) as url, owner_session(url) as session:
        with progress("listening again") as tell:
            async for lines in of_each_job(session, Lifelines, since=since, tell=tell):
                told = [line for line in lines if since is None or line.began_at >= since]
                present.add(told)
                other.add(told)
    if as_json:
        print_json(
            {"attempts": other.attempts, "present": _figures(present), "other": _figures(other)}
        )
    else:
        print_page(console, backtest_page(present, other))
    return DONE


def _figures(tested: Backtest) -> dict[str, Any]:
    return {
        "heartbeat_timeout": tested.policy.heartbeat_timeout,
        "stall_timeout": tested.policy.stall_timeout,
        "retry_backoff": tested.policy.retry_backoff,
        "kills": len(tested.kills),
        "false_kills": [_kill(kill) for kill in tested.false_kills],
        "detections": [_kill(kill) for kill in tested.detections],
        "undecided": tested.undecided,
        "mean_delay_seconds": tested.mean_delay,
        "mean_delay_seconds_in_fact": tested.mean_delay_then,
        "saved_hours": tested.saved_hours,
        "wasted_hours": tested.wasted_hours,
        "silent": asdict(tested.silent),
        "stalled": asdict(tested.stalled),
        "retries": tested.retries,
        "retry_wait_hours": tested.waited_seconds / 3600,
    }


def _kill(kill: Any) -> dict[str, Any]:
    said = asdict(kill)
    seconds = {"delay_seconds": kill.delay}
    if kill.is_true:
        seconds |= {
            "delay_seconds_in_fact": kill.delay_then,
            "saved_seconds": kill.saved_seconds,
        }
    return said | seconds


def load_rules(named: str) -> Callable[[Policy], Rules]:
    """Return the rule set `module:attribute`, seen from the current directory.

    Raises RuleSetError where there is none.
    """
    module, colon, attribute = named.partition(":")
    if not (module and colon and attribute):
        raise RuleSetError(f"{named} has not the form MODULE:ATTRIBUTE")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = attrgetter(attribute)(importlib.import_module(module))
        complete(found, Policy())
    except RuleSetError as error:
        raise RuleSetError(f"{named} is no rule set: {error}") from error
    except Exception as error:  # the module is somebody else's: it may raise anything
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise RuleSetError(f"{named} cannot be imported: {what}") from error
    return partial(complete, found)
