"""The commands of docs/kubernetes.md name files, objects and keys that there are."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.manifests import KUBERNETES, MAKERS, ROOT, named, of_kind, overlay

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
INSTALL = [shlex.split(line) for line in BLOCKS[0].splitlines()]
COMMANDS = [shlex.split(line) for block in BLOCKS for line in block.splitlines()]


def keys_made(name: str) -> set[str]:
    [command] = [one for one in INSTALL if one[1:5] == ["create", "secret", "generic", name]]
    return {word.split("=")[1] for word in command if word.startswith("--from-literal")}


def keys_needed(tree: Any, name: str) -> set[str]:
    """Every key of a Secret that something cannot do without."""
    if isinstance(tree, list):
        return set().union(*(keys_needed(one, name) for one in tree))
    if not isinstance(tree, dict):
        return set()
    reference = tree.get("secretKeyRef", {})
    own = {reference["key"]} if reference.get("name") == name else set()
    optional = reference.get("optional", False)
    return keys_needed(list(tree.values()), name) | (set() if optional else own)


def test_it_is_installed_in_five_commands() -> None:
    assert len(INSTALL) == 5
    assert {command[0] for command in INSTALL} == {"kubectl"}


def test_the_secrets_have_the_keys_that_are_needed() -> None:
    template = yaml.safe_load((ROOT / "deploy" / "job-template.yaml").read_text(encoding="utf-8"))

    assert keys_made("epochlog") == keys_needed(of_kind(overlay("production"), *MAKERS), "epochlog")
    assert keys_made("r2-credentials") == keys_needed(template, "r2-credentials")
    local = keys_needed(of_kind(overlay("local"), *MAKERS), "epochlog")
    assert local == keys_made("epochlog") | {"postgres-password"}
    assert '--from-literal=postgres-password="' in PAGE


@pytest.mark.parametrize(
    "path", [w for one in COMMANDS for w in one if w.startswith("deploy/") and "epochlog" not in w]
)
def test_a_file_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()
    assert (ROOT / path).suffix or (ROOT / path / "kustomization.yaml").exists()


def test_objects_are_those_of_the_manifests() -> None:
    waited = INSTALL[-1]

    service = named(overlay("production"), "Deployment", "epochlog")
    assert waited[waited.index("--namespace") + 1] == service["metadata"]["namespace"]
    assert f"deployment/{service['metadata']['name']}" in waited
    for manifest in overlay("production"):
        if manifest["kind"] != "NetworkPolicy":
            assert manifest["metadata"]["name"] in PAGE


def test_the_template_for_one_machine_asks_for_no_gpu(tmp_path: Path) -> None:
    [line] = [line for block in BLOCKS for line in block.splitlines() if line.startswith("sed ")]
    [volume] = [
        one
        for one in named(overlay("local"), "Deployment", "epochlog")["spec"]["template"]["spec"][
            "volumes"
        ]
        if one["name"] == "job-template"
    ]
    settings = named(overlay("local"), "ConfigMap", "epochlog-settings")["data"]

    subprocess.run(line.replace("> ", f"> {tmp_path}/"), shell=True, cwd=ROOT, check=True)

    made = tmp_path / Path(settings["EPOCHLOG_JOB_TEMPLATE"]).name
    [container] = yaml.safe_load(made.read_text("utf-8"))["spec"]["template"]["spec"]["containers"]
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert container["resources"]["requests"]["memory"] == "2Gi"
    assert f"configmap {volume['configMap']['name']}" in PAGE


def test_the_folder_of_the_overlays_is_where_the_page_says() -> None:
    assert KUBERNETES.relative_to(ROOT).as_posix() in PAGE
