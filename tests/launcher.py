"""Starts real trainers by themselves: against a callback server and a folder as the bucket."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import zipfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.callback_server import CallbackServer
from trainer.shapes import write_shapes

# Enough for imports and an epoch on a slow machine with two cores.
SLOW = 180.0


@dataclass
class Launcher:
    """Starts trainers against one server and one bucket, and ends those that a test left."""

    server: CallbackServer
    folder: Path
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def bucket(self) -> Path:
        return self.folder / "bucket"

    @property
    def log(self) -> str:
        return (self.folder / "trainer.log").read_text()

    def tracked_files(self) -> list[str]:
        files = (self.folder / "mlartifacts").rglob("*")
        return sorted(file.name for file in files if file.is_file())

    def tracked_steps(self) -> list[tuple[str, int]]:
        """Return the epochs whose metrics each run in MLflow holds."""
        with closing(sqlite3.connect(self.folder / "mlflow.db")) as tracked:
            wanted = "select distinct run_uuid, step from metrics where key = 'mAP50' order by step"
            return tracked.execute(wanted).fetchall()

    def add_shapes(self, images: int = 16) -> None:
        (self.bucket / "datasets").mkdir(parents=True)
        write_shapes(self.bucket / "datasets" / "shapes.zip", images=images, seed=0, size=64)

    def add_zip(self, **entries: str) -> None:
        (self.bucket / "datasets").mkdir(parents=True)
        with zipfile.ZipFile(self.bucket / "datasets" / "shapes.zip", "w") as archive:
            for name, text in entries.items():
                archive.writestr(name, text)

    async def launch(self, **changes: str) -> asyncio.subprocess.Process:
        with (self.folder / "trainer.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "trainer",
                env=os.environ | self._environment() | changes,
                cwd=Path(__file__).parents[1],
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        return {
            "JOB_ID": str(self.server.job_id),
            "ATTEMPT": "1",
            "TRACE_ID": self.server.trace_id,
            "BACKEND_BASE_URL": self.server.url,
            "CALLBACK_TOKEN": self.server.token,
            "STORAGE_TYPE": "local",
            "BUCKET": str(self.bucket),
            "DATASET_ID": "shapes",
            "MODEL_NAME": "yolov8n",
            "EPOCHS": "2",
            "IMGSZ": "64",
            "BATCH": "4",
            "HEARTBEAT_SECONDS": "0.2",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "WORK_DIR": str(self.folder / "work"),
        }


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(SLOW):
        return await process.wait()


def path_of(artifact: dict[str, Any]) -> Path:
    return Path(unquote(urlsplit(artifact["uri"]).path))


def assert_every_line_is_traced(launcher: Launcher) -> None:
    marker = f"[TRACE:{launcher.server.trace_id}]"
    assert [line for line in launcher.log.splitlines() if marker not in line] == []
