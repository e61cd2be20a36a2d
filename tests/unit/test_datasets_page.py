"""docs/datasets.md says what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from service.dataset_files import NEVER_SENT, UNWANTED
from tests.unit.test_trainer_configuration import GIVEN
from trainer.configuration import DATASET_CHECKS, read_configuration
from trainer.dataset_cache import default_folder
from trainer.description import read_keypoints, read_names
from trainer.findings import KEPT
from trainer.labels import TASKS
from trainer.manifest import read_manifest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
CODE = re.compile(r'(?:(?:refuse|doubt|note)\(|"error",|"warning",)\s*"([a-z_]+)"')


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def table(section: str) -> list[list[str]]:
    rows = re.findall(r"^\| (`.*) \|$", SECTIONS[section], re.MULTILINE)
    return [row.split(" | ") for row in rows]


def test_its_manifest_is_one_that_a_trainer_reads(tmp_path: Path) -> None:
    [text] = blocks("json")
    (tmp_path / "_manifest.json").write_text(text)

    manifest = read_manifest(tmp_path / "_manifest.json", "shapes")

    assert (manifest.version, len(manifest.entries)) == (2, 1)
    told = manifest.metadata
    assert sum(told["objects_of"].values()) == told["objects"]
    for file in json.loads(text)["files"]:
        assert file["key"] == f"datasets/shapes/files/{file['sha256'][:2]}/{file['sha256']}"


def test_its_data_yaml_is_one_that_a_trainer_reads() -> None:
    import yaml  # noqa: PLC0415

    content = yaml.safe_load(blocks("yaml")[0])

    assert len(read_names(content)) == 3
    assert read_keypoints(content) == (3, 2)


def test_it_names_every_task_and_every_setting_with_its_default() -> None:
    assert {row[0].strip("`") for row in table("Layout")} == set(TASKS)
    settings = {row[0].strip("`"): row[1] for row in table("In the trainer")}
    given = read_configuration(GIVEN)
    assert settings == {
        "DATASET_CHECK": f"`{given.dataset_check}`",
        "DATASET_CACHE_DIR": "`epochlog-{user id}/datasets` in the folder for temporary files",
        "DATASET_CACHE_BYTES": f"`{given.dataset_cache_bytes}`",
    }
    template = (ROOT / "deploy" / "job-template.yaml").read_text()
    assert '{ name: DATASET_CACHE_BYTES, value: "0" }' in template
    assert all(f"`{check}`" in SECTIONS["In the trainer"] for check in DATASET_CHECKS)
    assert re.fullmatch(r".*/epochlog-\d+/datasets", str(default_folder()))


def test_it_names_every_finding_and_no_other() -> None:
    files = ("inspection", "looking", "labels")
    found = {
        code
        for name in files
        for code in CODE.findall((ROOT / "trainer" / f"{name}.py").read_text())
    }
    listed = {
        code for row in table("What the check finds") for code in re.findall(r"`(\w+)`", row[0])
    }

    found.discard("warning")  # the other level, which stands beside the first

    assert "labels_empty" in found
    assert listed == found
    assert f"the first {KEPT} are told" in PAGE


def test_it_names_what_is_not_sent() -> None:
    assert all(f"`{name}`" in SECTIONS["Layout"] for name in UNWANTED)
    assert all(f"`*{suffix}`" in SECTIONS["Layout"] for suffix in NEVER_SENT)
