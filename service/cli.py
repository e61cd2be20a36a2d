# ruff: noqa: PLC0415 - each command loads its libraries when it runs, so that help is there at once
"""The command line: names, options and what they mean."""

from __future__ import annotations

import importlib.metadata
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from service.dataset_cli import datasets
from service.replay_cli import replay

Status = Literal["pending", "queued", "running", "succeeded", "failed", "cancelled"]

app = typer.Typer(
    name="epochlog",
    help="The flight recorder and control plane for GPU training jobs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
tokens = typer.Typer(no_args_is_help=True, help="Make tokens for the control API.")
app.add_typer(tokens, name="token")
app.add_typer(datasets, name="dataset")


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"epochlog {importlib.metadata.version('epochlog')}")
        raise typer.Exit


@app.callback()
def about(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_tell_version, is_eager=True),
    ] = False,
) -> None:
    """The flight recorder and control plane for GPU training jobs."""


JobId = Annotated[int, typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="The job's number.")]
AsOf = Annotated[
    str | None,
    typer.Option(
        metavar="TIME|POSITION",
        help="Show it as it was then: an RFC 3339 time, or a position of the log.",
    ),
]
View = Annotated[
    Literal["recorded", "occurred"] | None,
    typer.Option(
        help="What we had recorded by then (the default), or what had occurred by then,"
        " whenever it was recorded; that needs a time."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="A label; repeatable.")
]


@app.command()
def demo(
    epochs: Annotated[int, typer.Option(min=3, max=1000, help="How many epochs to train.")] = 3,
    images: Annotated[int, typer.Option(min=48, max=5000, help="How many images to draw.")] = 48,
) -> int:
    """Train a small real model end to end on this machine, and show its timeline."""
    from service import hosting, running

    return running.run(partial(hosting.demo, epochs=epochs, images=images))


@app.command()
def serve() -> int:
    """Run the service until Ctrl-C or SIGTERM."""
    from service import hosting, running

    return running.run(hosting.serve)


@app.command()
def migrate() -> int:
    """Bring the database's schema up to date."""
    from service import hosting, running

    return running.run(hosting.migrate)


@app.command()
def submit(
    dataset_id: Annotated[str, typer.Argument(help="The data set, as `dataset push` named it.")],
    model_name: Annotated[str, typer.Argument(help="The model, such as yolov8n.")],
    *,
    epochs: Annotated[int, typer.Option(help="How many epochs to train.")],
    max_retries: Annotated[int | None, typer.Option(help="How often to try again.")] = None,
    imgsz: Annotated[int | None, typer.Option(help="The images' size in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="How many images a batch.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="The cluster to run in; else the first.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A training parameter, JSON or text; repeatable."),
    ] = None,
    label: Labels = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Sent twice with the same key, it is made once.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it live until it ends.")] = False,
    as_json: AsJson = False,
) -> int:
    """Make a job."""
    from service import commands, running

    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together.")
    optional = {
        "max_retries": max_retries,
        "imgsz": imgsz,
        "batch": batch,
        "priority": priority,
        "cluster": cluster,
        "params": {name: _json_or_text(value) for name, value in _pairs("--param", param)},
        "labels": dict(_pairs("--label", label)),
    }
    new = {"dataset_id": dataset_id, "model_name": model_name, "epochs": epochs}
    new |= {name: value for name, value in optional.items() if value not in (None, {})}
    return running.run(
        partial(commands.submit, new=new, key=idempotency_key, watch=watch, as_json=as_json)
    )


@app.command()
def jobs(
    *,
    status: Annotated[Status | None, typer.Option(help="Only jobs of this status.")] = None,
    label: Labels = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> int:
    """List jobs, newest first."""
    from service import commands, running

    labels = [f"{name}={value}" for name, value in _pairs("--label", label)]
    return running.run(
        partial(
            commands.jobs,
            status=status,
            labels=labels,
            limit=limit,
            everything=everything,
            as_of=as_of,
            as_json=as_json,
        )
    )


@app.command()
def status(job_id: JobId, *, as_of: AsOf = None, view: View = None, as_json: AsJson = False) -> int:
    """Show a job: status, progress, metrics, health, files."""
    from service import commands, running

    return running.run(
        partial(commands.status, job_id=job_id, as_of=as_of, view=view, as_json=as_json)
    )


@app.command()
def timeline(
    job_id: JobId, *, as_of: AsOf = None, view: View = None, as_json: AsJson = False
) -> int:
    """Show a job's attempts with phases, epochs and checkpoints, and its story."""
    from service import commands, running

    return running.run(
        partial(commands.timeline, job_id=job_id, as_of=as_of, view=view, as_json=as_json)
    )


@app.command()
def explain(
    job_id: JobId, *, as_of: AsOf = None, view: View = None, as_json: AsJson = False
) -> int:
    """Show why a job's status is what it is: the deciding events, and what did not count."""
    from service import commands, running

    return running.run(
        partial(commands.explain, job_id=job_id, as_of=as_of, view=view, as_json=as_json)
    )


@app.command()
def fleet(*, as_of: AsOf = None, as_json: AsJson = False) -> int:
    """Show how many jobs have each status, and every job that is not final."""
    from service import fleet_commands, running

    return running.run(partial(fleet_commands.fleet, as_of=as_of, as_json=as_json))


@app.command()
def fleet_diff(
    begin: Annotated[
        str, typer.Argument(metavar="FROM", help="An RFC 3339 time, or a position of the log.")
    ],
    end: Annotated[
        str | None, typer.Argument(metavar="TO", help="The same; now, where it is absent.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> int:
    """Show each job whose status, attempt or health changed between two moments."""
    from service import fleet_commands, running

    return running.run(partial(fleet_commands.fleet_diff, begin=begin, end=end, as_json=as_json))


@app.command()
def watch(job_id: JobId) -> int:
    """Show a job live until it ends; exit 0 only if it succeeded."""
    from service import commands, running

    return running.run(partial(commands.watch, job_id=job_id))


@app.command()
def logs(
    job_id: JobId,
    *,
    attempt: Annotated[int | None, typer.Option(min=1, help="Not the current one.")] = None,
    tail: Annotated[int | None, typer.Option(min=0, help="Only so many last lines.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
) -> int:
    """Print what the trainer printed."""
    from service import commands, running

    return running.run(
        partial(commands.logs, job_id=job_id, attempt=attempt, tail=tail, follows=follow)
    )


@app.command()
def cancel(
    job_id: JobId,
    *,
    reason: Annotated[str | None, typer.Option(help="Why, for the log.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended.")] = False,
    as_json: AsJson = False,
) -> int:
    """Ask for a job to be cancelled."""
    from service import commands, running

    if wait and as_json:
        raise typer.BadParameter("--wait and --json do not go together.")
    return running.run(
        partial(commands.cancel, job_id=job_id, reason=reason, wait=wait, as_json=as_json)
    )


@app.command()
def export(
    job_id: JobId,
    *,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="epochlog-job-ID.zip; - is stdout."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> int:
    """Write a job's incident bundle: a zip of everything known, with a viewer for any browser."""
    from service import bundle_commands, running

    if output == "-" and as_json:
        raise typer.BadParameter("-o - and --json do not go together.")
    return running.run(
        partial(bundle_commands.export, job_id=job_id, output=output, force=force, as_json=as_json)
    )


@app.command("import")
def import_bundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The zip of an export.")],
    *,
    check: Annotated[bool, typer.Option("--check", help="Only check it; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> int:
    """Check an incident bundle and load it into a state folder whose log is empty."""
    from service import bundle_commands, running

    return running.run(
        partial(bundle_commands.import_bundle, path=file, only_check=check, as_json=as_json)
    )


@app.command()
def verify(
    job_id: Annotated[
        int | None,
        typer.Argument(metavar="ID", min=1, max=2**63 - 1, help="Only this job; else all."),
    ] = None,
    *,
    anchors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            readable=True,
            help="A copy of anchors.jsonl that was kept elsewhere; else the state folder's.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check that nobody has changed, cut or forged the log; exit 1 and name the first fault.

    Reads the database itself, whether a service runs on it or not: every event's hash and place,
    what is kept beside the events, and the signed anchors.
    """
    from service import running, verify_command

    return running.run(
        partial(verify_command.verify, job_id=job_id, anchors=anchors, as_json=as_json)
    )


app.command()(replay)


@app.command()
def compact(
    *,
    older_than: Annotated[
        str, typer.Option(metavar="AGE", help="Ranges whose newest event is older: 30d, 12h …")
    ] = "30d",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> int:
    """Archive old ranges of the log, and roll up the heartbeats in them.

    Works on the database itself, whether a service runs on it or not. Everything that a status, a
    timeline or an explanation rests on stays online; `restore` brings the rest back.
    """
    from service import growth_commands, running

    try:
        seconds = growth_commands.seconds_in(older_than)
    except ValueError as error:
        raise typer.BadParameter(f"--older-than {error}.") from error
    work = partial(growth_commands.compact, older_than=seconds, dry_run=dry_run, as_json=as_json)
    return running.run(work)


@app.command()
def archives(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Read every file, and exit 1 if one is not whole.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print them as JSON.")] = False,
) -> int:
    """List the ranges of the log that were archived."""
    from service import growth_commands, running

    return running.run(partial(growth_commands.archives, check=check, as_json=as_json))


@app.command()
def restore(
    ranges: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RANGE]...", help="As `archives` names them: 1-1000000."),
    ] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> int:
    """Bring archived ranges back, event by event, for a replay."""
    from service import growth_commands, running

    if bool(ranges) == everything:
        raise typer.BadParameter("name the ranges to restore, or give --all.")
    wanted = None if everything else ranges
    return running.run(partial(growth_commands.restore, wanted=wanted, as_json=as_json))


@tokens.command("create")
def create_token(
    *,
    role: Annotated[Literal["viewer", "operator", "admin"], typer.Option(help="What it may do.")],
    name: Annotated[str | None, typer.Option(help="Whose it is.")] = None,
    as_json: AsJson = False,
) -> int:
    """Make an API token; it is shown once."""
    from service import commands, running

    return running.run(partial(commands.create_token, role=role, name=name, as_json=as_json))


def _pairs(option: str, given: list[str] | None) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in given or ()]
    for name, equals, _value in pairs:
        if not name or not equals:
            raise typer.BadParameter(f"{option} needs the form NAME=VALUE.")
    return [(name, value) for name, _equals, value in pairs]


def _json_or_text(value: str) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
