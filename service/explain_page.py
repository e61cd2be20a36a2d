"""Why a job's status is what it is, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import RenderableType
from rich.text import Text

from service.answer_schemas import ExplainAnswer
from service.page import fact, folded, heading, plain, status_text
from service.rendering import health_line

_INDENT = 30
_LINES = 12


def explain_page(
    job_id: int, told: ExplainAnswer, width: int, *, past: bool = False
) -> Iterator[RenderableType]:
    """Show the status, the rule, the events behind it, and all that did not count."""
    yield Text.assemble((f"Job {job_id} is ", "bold"), status_text(told.status))
    yield Text()
    yield fact("reason", f"{told.reason.message} ({told.reason.code})", width)
    yield fact("rule", f"{told.rule_text} ({told.rule})", width)
    yield fact("health", health_line(told.health, None if past else datetime.now(UTC)), width)
    yield heading("Because")
    for event in told.because:
        yield _line(f"#{event.position}", event.type, event.why, width)
    if told.evidence:
        yield heading("Evidence")
    for exhibit in told.evidence:
        yield _line(f"#{exhibit.position}", exhibit.type, exhibit.why, width)
        for line in exhibit.lines[-_LINES:]:
            yield Text(f"{'':>{_INDENT}}{plain(line)}", style="dim")
    yield heading("Set aside" if told.ignored else "Nothing was set aside")
    for ignored in told.ignored:
        why = f"{ignored.why} ({ignored.rule})"
        yield _line(f"#{ignored.position}", ignored.type, why, width)
    yield heading("Conflicts" if told.conflicts else "No facts contradict each other")
    for conflict in told.conflicts:
        positions = " ".join(f"#{position}" for position in conflict.positions)
        yield _line(positions, conflict.verdict, conflict.why, width)


def _line(positions: str, name: str, why: str, width: int) -> Text:
    begun = f"  {positions:>6}  {plain(name):<18}  "
    return Text.assemble(begun, folded(why, width - _INDENT, max(len(begun), _INDENT)))
