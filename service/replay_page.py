"""What a replay shows: its progress, what differs, and what other limits would have meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from projections.backtest import HOUR, Backtest
from projections.rule_set import Parting, Side
from service.comparing import Comparison
from service.figures import duration, moment, plural
from service.page import STYLES, open_console, plain

SHOWN = 50
"""How many rows of a long table are shown; --json has all."""


class _Rate(ProgressColumn):
    """How many events a second."""

    def render(self, task: Task) -> Text:
        """Return the speed, once there is one."""
        return Text(f"{task.speed:,.0f} events/s" if task.speed else "", "dim")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on stderr while that is a terminal; yield what moves it: done, and of how many."""
    console = open_console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _of: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
    )
    with Progress(
        *columns, _Rate(), TimeRemainingColumn(), console=console, transient=True
    ) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)


def comparison_page(
    found: Comparison, seconds: float, *, switched: bool
) -> Iterator[RenderableType]:
    """Say what was compared, what differs and what was done about it."""
    for table, rows in found.rows.items():
        differing = found.differing.get(table, 0)
        said = f"{differing} differ" if differing else "equal"
        yield Text.assemble(
            f"{table:<10} {plural(rows, 'row')}: ", (said, "red" if differing else "green")
        )
    for one in found.first:
        field = f" {one.field}" if one.field else ""
        yield Text(plain(f"  {one.table} {one.row}{field}: {one.live!r} → {one.rebuilt!r}"))
    hidden = sum(found.differing.values()) - len({(one.table, one.row) for one in found.first})
    if hidden > 0:
        yield Text(f"  and {plural(hidden, 'more row')}", "dim")
    done = "The projections were rebuilt and switched in" if switched else "Nothing was changed"
    yield Text(f"{done}; it took {duration(seconds)}.")


def partings_page(partings: Sequence[Parting], jobs: int) -> Iterator[RenderableType]:
    """List each job that would have gone another way."""
    yield Text(f"{len(partings)} of {plural(jobs, 'job')} would have gone another way.")
    if not partings:
        return
    table = _table("JOB", "PARTS AT", "WHEN", "AS IT IS", "BY THE OTHER RULES")
    for one in partings[:SHOWN]:
        table.add_row(
            str(one.job_id),
            str(one.position),
            moment(one.at),
            _side(one.recorded),
            _side(one.changed),
        )
    yield table
    yield from _more(len(partings))


_FACTS = ("reason", "failure_class", "delay_seconds", "why")


def _side(side: Side) -> Text:
    text = Text.assemble(
        (side.status.value, STYLES.get(side.status.value, "")),
        plain(f" ({side.reason}), attempt {side.attempt}"),
    )
    for decision in side.decisions:
        facts = [plain(f"{name} {decision[name]}") for name in _FACTS if name in decision]
        text.append(f"\n{decision['type']}: {', '.join(facts)}", "dim")
    return text


def backtest_page(present: Backtest, other: Backtest) -> Iterator[RenderableType]:
    """Set what the present limits say beside what the others would have said."""
    yield Text(f"{plural(other.attempts, 'attempt')} that ran.")
    table = _table("", "PRESENT SETTING", "THE OTHER")
    for name, *cells in zip(_NAMES, _cells(present), _cells(other), strict=True):
        table.add_row(name, *cells)
    yield table
    kills = [*other.false_kills, *other.detections]
    if not kills:
        return
    named = _table("JOB", "ATTEMPT", "SILENT SINCE", "ENDED AFTER", "WHAT CAME OF IT")
    for kill in kills[:SHOWN]:
        came = (
            f"called back at {moment(kill.called_at)}"
            if kill.called_at
            else f"over {duration(kill.delay_then)} after its last callback"
        )
        named.add_row(
            str(kill.job_id),
            str(kill.attempt),
            moment(kill.silent_since),
            duration(kill.delay),
            Text(came, "red" if kill.is_false else ""),
        )
    yield named
    yield from _more(len(kills))


_NAMES = (
    "heartbeat timeout",
    "ended as silent (after twice the timeout)",
    "  rightly: never called back",
    "  wrongly: called back later",
    "  not known yet",
    "ended so long after the last callback",
    "  and in fact, the same attempts",
    "idle hours saved",
    "hours of work lost by wrong ends",
    "stall timeout",
    "stall alarms",
    "  wrongly: it advanced later",
    "retry backoff",
    "hours that retries wait",
)


def _cells(tested: Backtest) -> tuple[str, ...]:
    policy = tested.policy
    return (
        duration(policy.heartbeat_timeout),
        str(len(tested.kills)),
        str(len(tested.detections)),
        str(len(tested.false_kills)),
        str(tested.undecided),
        _mean(tested.mean_delay),
        _mean(tested.mean_delay_then),
        f"{tested.saved_hours:.2f}",
        f"{tested.wasted_hours:.2f}",
        duration(policy.stall_timeout),
        str(tested.stalled.raised),
        str(tested.stalled.false),
        duration(policy.retry_backoff),
        f"{tested.waited_seconds / HOUR:.2f}",
    )


def _mean(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _more(rows: int) -> Iterator[RenderableType]:
    if rows > SHOWN:
        yield Text(f"and {rows - SHOWN} more: --json shows all", style="dim")
