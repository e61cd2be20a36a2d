# ruff: noqa: PLC0415 - each command loads its libraries when it runs, so that help is there at once
"""The commands `dataset push` and `dataset verify`: their options and what they mean."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

datasets = typer.Typer(no_args_is_help=True, help="Send data sets to the storage, and check them.")

AsJson = Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")]
Task = Annotated[
    Literal["detect", "segment", "classify", "pose", "obb"] | None,
    typer.Option(help="What it is for; guessed from its labels if absent."),
]


@datasets.command()
def push(
    source: Annotated[
        Path, typer.Argument(metavar="DIR|ZIP", exists=True, help="The data set on this disk.")
    ],
    *,
    dataset_id: Annotated[
        str | None, typer.Option("--id", metavar="NAME", help="Its id; else the folder's name.")
    ] = None,
    form: Annotated[
        Literal["zip", "manifest"] | None,
        typer.Option("--as", help="One zip, or single files; else as it lies there, or a zip."),
    ] = None,
    task: Task = None,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Send it unchecked.")] = False,
    all_again: Annotated[
        bool, typer.Option("--all", help="As a manifest: send also the files that are there.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Check a data set and send it to the storage, for jobs to train on.

    As a manifest, only files that are not there yet are sent, and each push is a version.
    """
    from service import dataset_commands, running

    name = dataset_commands.id_for(source, dataset_id)
    if name is None:
        raise typer.BadParameter("an id is letters, digits and . _ - ; name one with --id.")
    return running.run(
        partial(
            dataset_commands.push,
            source=source,
            dataset_id=name,
            form=form,
            task=task,
            verified=not no_verify,
            all_again=all_again,
            as_json=as_json,
        )
    )


@datasets.command()
def verify(
    target: Annotated[
        str, typer.Argument(metavar="DIR|ZIP|ID", help="A data set here, or one in the storage.")
    ],
    *,
    task: Task = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="In the storage: read every file, and not only its size.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Say what is wrong with a data set, file by file and line by line; exit 1 on an error."""
    from service import dataset_commands, running

    source = Path(target)
    if source.exists():
        work = partial(dataset_commands.verify_here, source=source, task=task, as_json=as_json)
    elif dataset_commands.is_id(target) and not target.endswith(".zip"):
        if task:
            raise typer.BadParameter("--task is for a data set on this disk.")
        work = partial(dataset_commands.verify_there, dataset_id=target, deep=deep, as_json=as_json)
    else:
        raise typer.BadParameter(f"there is no {target} on this disk.")
    return running.run(work)
