"""A bucket behind a line that can be cut, and a service that signs addresses of it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cutting_proxy import CuttingProxy
from tests.processes import ServiceProcess
from tests.s3 import KEY, SECRET, s3_server
from tests.storages import BUCKET
from trainer import backoff


@pytest.fixture(scope="module")
def buckets() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="epochlog-tests-") as folder:
        (Path(folder) / "buckets" / BUCKET / "datasets").mkdir(parents=True)
        yield Path(folder) / "buckets"


@pytest.fixture(scope="module")
def line(buckets: Path) -> Iterator[CuttingProxy]:
    with s3_server(buckets) as url, CuttingProxy(url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def service(line: CuttingProxy) -> Iterator[Any]:
    """A service that signs addresses, and a job's trainer."""
    signing = {
        "EPOCHLOG_EXECUTOR": "external",
        "EPOCHLOG_STORAGE_TYPE": "s3",
        "EPOCHLOG_STORAGE_ACCESS": "presigned",
        "EPOCHLOG_BUCKET": BUCKET,
        "EPOCHLOG_S3_ENDPOINT": line.url,
        "R2_ACCESS_KEY_ID": KEY,
        "R2_SECRET_ACCESS_KEY": SECRET,
    }
    with ServiceProcess(**signing) as process:
        process.start()
        job = process.call(
            "POST", "/v1/jobs", {"dataset_id": "shapes", "model_name": "m", "epochs": 1}
        )
        url = f"{process.url}/v1/jobs/{job['id']}"
        yield SimpleNamespace(process=process, job=job, url=url, token=job["callback_token"])


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_CEILING", 0.01)
    monkeypatch.setattr(backoff, "HIGHEST_CEILING", 0.02)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one mebibyte."""
    with tempfile.TemporaryDirectory(prefix="epochlog-tests-") as folder, ExitStack() as stack:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip("this user may not mount a file system")
        stack.callback(subprocess.run, ["umount", folder], check=True)
        yield Path(folder)
