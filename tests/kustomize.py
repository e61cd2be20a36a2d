"""What kustomize makes of our folders: it has no binary on PyPI, and we use little of it.

What this does not know is refused. Where there is a kubectl, a test compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

KNOWN = {
    "apiVersion", "kind", "resources", "patches", "images", "configMapGenerator",
    "generatorOptions",
}  # fmt: skip


def render(folder: Path) -> list[Manifest]:
    """Return the manifests of a folder with a kustomization."""
    wanted = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    assert set(wanted) <= KNOWN, wanted.keys()
    manifests = [one for name in wanted["resources"] for one in _resources(folder / name)]
    options = wanted.get("generatorOptions", {})
    manifests += [_generated(folder, one, options) for one in wanted.get("configMapGenerator", ())]
    for patch in wanted.get("patches", ()):
        assert set(patch) == {"path"}, patch
        for change in read(folder / patch["path"]):
            [target] = [one for one in manifests if identity(one) == identity(change)]
            _merge(target, change)
    for image in wanted.get("images", ()):
        assert set(image) == {"name", "newTag"}, image
        _retag(manifests, image["name"], image["newTag"])
    return manifests


def read(path: Path) -> list[Manifest]:
    """Return the manifests of a file."""
    # By way of JSON, because an alias in YAML is the very object of its anchor.
    text = path.read_text(encoding="utf-8")
    return [json.loads(json.dumps(one)) for one in yaml.safe_load_all(text)]


def identity(manifest: Manifest) -> tuple[str, str, str]:
    """Return what no two manifests have in common."""
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def _resources(path: Path) -> list[Manifest]:
    return render(path.resolve()) if path.is_dir() else read(path)


def _generated(folder: Path, wanted: Manifest, options: Manifest) -> Manifest:
    assert set(wanted) == {"name", "namespace", "files"}, wanted
    assert set(options) == {"disableNameSuffixHash", "labels"}, options
    assert options["disableNameSuffixHash"] is True
    metadata = {"name": wanted["name"], "namespace": wanted["namespace"]}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {**metadata, "labels": options["labels"]},
        # A file outside of the folder is refused, as kustomize refuses it.
        "data": {name: (folder / Path(name).name).read_text("utf-8") for name in wanted["files"]},
    }


def _merge(target: Manifest, change: Manifest) -> None:
    for name, value in change.items():
        # How lists are merged differs from field to field.
        assert not isinstance(value, list), f"a patch of the list {name}"
        if isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = value


def _retag(tree: Any, image: str, tag: str) -> None:
    for value in tree if isinstance(tree, list) else tree.values():
        if isinstance(value, dict | list):
            _retag(value, image, tag)
    if isinstance(tree, dict) and str(tree.get("image", "")).startswith(f"{image}:"):
        tree["image"] = f"{image}:{tag}"
