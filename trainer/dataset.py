"""A data set made ready to train on: fetched, inspected, and its data.yaml made safe."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainer.collecting import Collected, collect
from trainer.dataset_cache import DatasetCache
from trainer.description import (
    find_classes,
    find_description,
    read_description,
    read_keypoints,
    read_names,
    resolve_split,
)
from trainer.errors import (
    DatasetInvalidError,
    DatasetMissingError,
    ObjectMissingError,
    StorageDeniedError,
)
from trainer.manifest import Manifest, manifest_key, read_manifest
from trainer.steps import Step, uncounted
from trainer.storage import Storage, Stored
from trainer.unpack import unpack

PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
# What goes on to ultralytics. Not `download`: that would be somebody else's code or address.
KEPT = ("names", "nc", "channels", "kpt_shape", "flip_idx", "kpt_names")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A data set on this machine, and what the log is to know of it."""

    root: Path
    archive: Path | None  # still to be unpacked, at the root
    facts: dict[str, Any]

    def unpack(self, step: Step = uncounted) -> None:
        """Turn the zip into the folder."""
        if self.archive is not None:
            unpack(self.archive, self.root, step=step)
            self.archive.unlink()


def obtain_dataset(
    storage: Storage,
    dataset_id: str,
    work: Path,
    cache: DatasetCache,
    step: Step = uncounted,
) -> Fetched:
    """Fetch a data set by its manifest or, where there is none, its zip."""
    refuse_id(dataset_id)
    root, listed = work / "dataset", work / "_manifest.json"
    refused: StorageDeniedError | None = None
    try:
        stored = storage.fetch(manifest_key(dataset_id), listed)
    except ObjectMissingError:
        pass
    except StorageDeniedError as error:
        # S3 says so, too, where a key that may not list asks for what is not there.
        refused = error
    else:
        manifest = read_manifest(listed, dataset_id)
        collected = collect(storage, manifest, root, cache, step)
        return Fetched(root, None, _facts(manifest, collected, stored))
    archive = work / "dataset.zip"
    try:
        stored = fetch_dataset(storage, dataset_id, archive)
    except (DatasetMissingError, StorageDeniedError) as error:
        raise (refused or error) from error
    return Fetched(root, archive, {"form": "zip", **_named(archive.name, stored)})


def _facts(manifest: Manifest, collected: Collected, stored: Stored) -> dict[str, Any]:
    return {
        "form": "manifest",
        **_named("_manifest.json", stored),
        "version": manifest.version,
        "files": collected.files,
        "total_bytes": collected.bytes,
        "fetched_files": collected.fetched_files,
        "fetched_bytes": collected.fetched_bytes,
    }


def _named(name: str, stored: Stored) -> dict[str, Any]:
    return {"name": name, "uri": stored.uri, "sha256": stored.sha256, "bytes": stored.bytes}


def fetch_dataset(storage: Storage, dataset_id: str, target: Path) -> Stored:
    """Copy the data set's zip here."""
    refuse_id(dataset_id)
    try:
        return storage.fetch(f"datasets/{dataset_id}.zip", target)
    except ObjectMissingError as error:
        raise DatasetMissingError(str(error)) from error


def refuse_id(dataset_id: str) -> None:
    """Raise DatasetInvalidError for an id that could be a path."""
    if not PLAIN_NAME.fullmatch(dataset_id):
        raise DatasetInvalidError(
            f"The data set's id {dataset_id!r} is not a plain name of letters, digits and . _ - ."
        )


def ready_dataset(root: Path, target: Path, task: str | None) -> Path:
    """Return what to tell ultralytics: our data.yaml, or the folder of a classification."""
    if task in {"classify", None} and (top := find_classes(root)) is not None:
        try:
            find_description(root)
        except DatasetInvalidError:
            return top
        if task == "classify":
            return top
    prepare_dataset(root, target)
    return target


def prepare_dataset(root: Path, target: Path) -> dict[str, Any]:
    """Check the unpacked data set, write the data.yaml to train with, and return its content."""
    description = find_description(root)
    content = read_description(description)
    read_names(content)
    read_keypoints(content)
    ready = {
        "path": str(root.resolve()),
        "train": resolve_split(content, "train", description.parent, root),
        "val": resolve_split(content, "val", description.parent, root),
        **{key: content[key] for key in KEPT if content.get(key) is not None},
    }
    target.write_text(yaml.safe_dump(ready, sort_keys=False))
    return ready
