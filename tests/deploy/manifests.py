"""The manifests as an install sends them, and where in them the pods are."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.kustomize import Manifest, render

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("local", "production")
MAKERS = ("Deployment", "StatefulSet", "Job")


@cache
def overlay(name: str) -> list[Manifest]:
    """Return the manifests of an overlay; nobody changes them."""
    return render(KUBERNETES / "overlays" / name)


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """Return the manifests of some kinds."""
    return [one for one in manifests if one["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the one manifest of a kind and a name."""
    [found] = [one for one in of_kind(manifests, kind) if one["metadata"]["name"] == name]
    return found


def containers(maker: Manifest) -> Iterator[dict[str, Any]]:
    """Yield every container of what a Deployment, a StatefulSet or a Job makes."""
    pod = maker["spec"]["template"]["spec"]
    yield from pod.get("initContainers", ())
    yield from pod["containers"]


def trainer_labels() -> dict[str, str]:
    """Return the labels of a trainer's pod."""
    text = (ROOT / "deploy" / "job-template.yaml").read_text(encoding="utf-8")
    labels: dict[str, str] = yaml.safe_load(text)["spec"]["template"]["metadata"]["labels"]
    return labels
