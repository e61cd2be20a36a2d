"""The command that checks the log, and how its result is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from projections.anchors import AnchorKeys
from projections.archives import Seal
from service.anchors import ANCHORS_NAME, AnchorsFile
from service.figures import plural
from service.logs import configure_logs
from service.opening import database_url
from service.page import open_console, print_json, print_page
from service.postgres import Database
from service.running import DONE, FAILED, CommandError, complain
from service.settings import Settings
from service.state_folder import StateFolder
from service.store import Store
from service.verifying import Tell, Verified, silently
from service.verifying import verify as verify_log

SHOWN = 20


async def verify(
    settings: Settings,
    console: Console,
    *,
    job_id: int | None,
    anchors: Path | None,
    as_json: bool,
) -> int:
    """Check one job or all, and say what is wrong."""
    configure_logs("CRITICAL")
    async with database_url(settings) as url:
        database = await Database.connect(url, size=2)
        try:
            await database.ready()
            copy = AnchorsFile(anchors) if anchors else await _own_copy(settings, database)
            with _progress() as tell:
                verified = await verify_log(
                    database,
                    _keys(settings),
                    seal=Seal(_key(settings), settings.secret_keys_old),
                    job_id=job_id,
                    copy=copy,
                    tell=tell,
                )
        finally:
            await database.close()
    if job_id is not None and not verified.audit.chains:
        raise CommandError(f"There is no job {job_id}.")
    if as_json:
        print_json(_report(verified))
    else:
        print_page(console, _page(verified, copy))
    if verified.audit.findings.total:
        complain(_first_fault(verified))
        return FAILED
    return DONE


def _keys(settings: Settings) -> AnchorKeys:
    return AnchorKeys(_key(settings), settings.secret_keys_old)


def _key(settings: Settings) -> str | None:
    """Return the key that a service here signs with; none is made for looking."""
    kept = (settings.state_dir / "secret-key").exists()
    own = StateFolder(settings.state_dir).secret_key() if kept else None
    return settings.secret_key or own


async def _own_copy(settings: Settings, database: Database) -> AnchorsFile | None:
    """Return the state folder's copy of the anchors, if it holds one of this log."""
    copy, noted = settings.state_dir / ANCHORS_NAME, settings.state_dir / "log-id"
    if not copy.is_file():
        return None
    # Beside its own embedded database a copy cannot be of another log by mistake.
    if settings.database_url:
        log_id = await Store(database).log_id()
        if not noted.is_file() or noted.read_text("utf-8", "replace").strip() != log_id:
            complain(f"Warning: {copy} is of another log; it is not compared.")
            return None
    return AnchorsFile(copy)


@contextmanager
def _progress() -> Iterator[Tell]:
    console = open_console(stderr=True)
    if not console.is_terminal:
        yield silently
        return
    columns = (
        TextColumn("verifying"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("verifying", total=None)

        def tell(position: int, end: int) -> None:
            progress.update(task, completed=position, total=end)

        yield tell


def _report(verified: Verified) -> dict[str, Any]:
    audit = verified.audit
    findings = audit.findings.in_order()
    return {
        "whole": not audit.findings.total,
        "log_id": verified.log_id,
        "job_id": audit.only_job,
        "events": audit.events,
        "compacted": audit.rolled_up,
        "jobs": len(audit.chains),
        "position": audit.position,
        "anchors": verified.anchors,
        "anchored_position": verified.anchored_position,
        "faults": audit.findings.total,
        "findings": [asdict(finding) for finding in findings],
    }


def _page(verified: Verified, copy: AnchorsFile | None) -> Iterator[RenderableType]:
    audit = verified.audit
    what = (
        f"{plural(audit.events, 'event')} of {plural(len(audit.chains), 'job')}"
        f" up to position {audit.position}"
    )
    if not audit.findings.total:
        yield Text.assemble(("whole", "bold green"), f": {what}")
    else:
        faults = plural(audit.findings.total, "fault")
        yield Text.assemble(("broken", "bold red"), f": {faults} in {what}")
        for finding in audit.findings.in_order()[:SHOWN]:
            yield Text.assemble("  ", (finding.fault.value, "red"), f"  {finding.message}")
        if audit.findings.total > SHOWN:
            yield Text(f"  … and {audit.findings.total - SHOWN} more; --json has them.")
    yield Text(_about_anchors(verified, copy), style="dim")


def _about_anchors(verified: Verified, copy: AnchorsFile | None) -> str:
    if not verified.anchors:
        return "There is no anchor yet; without one, a log that is cut off everywhere looks whole."
    anchors = plural(verified.anchors, "anchor")
    compared = f"compared with {anchors}, up to position {verified.anchored_position}"
    if copy is None:
        return f"{compared}; no copy outside the database was at hand (--anchors FILE)"
    return f"{compared}, and with the copy in {copy.path}"


def _first_fault(verified: Verified) -> str:
    findings, total = verified.audit.findings.in_order(), verified.audit.findings.total
    more = f" ({plural(total - 1, 'further fault')})" if total > 1 else ""
    return f"The log is broken{more}: {findings[0].fault}: {findings[0].message}"
