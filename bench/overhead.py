"""`python -m bench.overhead`: how much longer a training takes with our callbacks than without.

The same training (seed, data, order) runs in one process by turns: bare, as ultralytics does it,
and with everything of ours in it: hooks, heartbeats each second, callbacks over HTTP, checkpoints
copied, hashed and stored, MLflow, and the machine's gauges. The first pair only warms up.

The difference of two trainings is mostly noise. `blocked_percent` and `beside_percent` are measured
within one: how long the training stood still for us, and what our threads used of a core meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from trainer.callbacks import Callbacks
from trainer.dataset import prepare_dataset
from trainer.hooks import NAMES, Hooks
from trainer.local_storage import LocalStorage
from trainer.offline import offline_environment
from trainer.plan import Plan
from trainer.progress import Heart
from trainer.recorder import Recorder
from trainer.shapes import write_shapes
from trainer.stop import Stop
from trainer.telemetry import Telemetry
from trainer.tracking import Tracking
from trainer.unpack import unpack
from trainer.uploads import Uploads

HEARTBEAT_SECONDS = 1.0
OURS = frozenset({"callbacks", "heart", "uploads", "tracking"})
PATIENCE = 60.0
# A service that takes everything, in a process of its own; it prints its port.
SERVICE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"directive": "continue", "results": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one training took: of the clock, and of all cores together."""

    wall: float
    cpu: float
    blocked: float = 0.0  # of the clock, in our hooks: the training stood still
    beside: float = 0.0  # of the cores, in our own threads


@dataclass(frozen=True, slots=True)
class Overhead:
    """What ours adds, in percent of the bare training: the pairs' median, and their spread."""

    median: float
    lowest: float
    highest: float


def overhead(bare: list[float], ours: list[float]) -> Overhead:
    """Compare each training with its neighbour, so that what slows the machine slows both."""
    added = [100 * (mine / plain - 1) for plain, mine in zip(bare, ours, strict=True)]
    return Overhead(*(round(f(added), 2) for f in (statistics.median, min, max)))


def measured(work: Callable[[], float]) -> Cost:
    """Run it, and return what it took."""
    wall, cpu, Clocked.seconds = time.perf_counter(), time.process_time(), 0.0
    used = work()
    return Cost(
        time.perf_counter() - wall, time.process_time() - cpu, Clocked.seconds, round(used, 2)
    )


class Clocked(Hooks):
    """The hooks, which note how long the training waits for them."""

    seconds = 0.0

    def attach(self, model: Any) -> None:
        """Ask to be called, by way of the clock."""
        for name in NAMES:
            model.add_callback(name, self._clocked(getattr(self, name)))

    def _clocked(self, hook: Callable[[Any], None]) -> Callable[[Any], None]:
        def call(trainer: Any) -> None:
            began = time.perf_counter()
            hook(trainer)
            Clocked.seconds += time.perf_counter() - began

        return call


def beside() -> float:
    """Return what our threads have used of the cores by now."""
    ids = {thread.native_id for thread in threading.enumerate() if thread.name in OURS}
    used = psutil.Process().threads()
    return sum(one.user_time + one.system_time for one in used if one.id in ids)


def bare(train: ModuleType, plan: Plan) -> float:
    """Train as ultralytics does by itself; nothing of ours uses a core."""
    train.load_model(plan.model).train(**train.arguments(plan))
    return 0.0


def ours(train: ModuleType, plan: Plan, url: str) -> float:
    """Train with all that the trainer does beside; return what its threads used of the cores."""
    before = beside()
    callbacks = Callbacks(
        base_url=url,
        job_id=1,
        trace_id="bench",
        token="bench",  # noqa: S106 - no secret
        hear=lambda _directive: None,
    )
    heart = Heart(HEARTBEAT_SECONDS, lambda body: callbacks.heartbeat(body, timed=True))
    uploads = Uploads(
        storage=LocalStorage(plan.folder / "bucket"),
        folder="checkpoints/job-1/attempt-1",
        say=callbacks.event,
        aside=plan.folder / "uploads",
    )
    tracking = Tracking(
        uri=f"sqlite:///{plan.folder.parent}/mlflow.db",
        run_name="bench",
        tags={},
        say=lambda _kind, **_data: None,
    )
    recorder = Recorder(
        callbacks=callbacks,
        heart=heart,
        tracking=tracking,
        uploads=uploads,
        telemetry=Telemetry(),
    )
    heart.start()
    train.train(plan, recorder, Stop())
    heart.stop()
    uploads.settle(lambda: PATIENCE)
    callbacks.flush(PATIENCE)
    used = beside() - before
    tracking.finish("FINISHED", PATIENCE)
    callbacks.close()
    return used


def compare(chosen: argparse.Namespace, work: Path, url: str) -> dict[str, Any]:
    """Train by turns, and return what was measured."""
    os.environ.update(offline_environment(work, os.environ))
    from trainer import train  # noqa: PLC0415 - only after the environment

    train.stay_offline()
    vars(train)["Hooks"] = Clocked
    data = _data_set(chosen, work)
    costs: dict[str, list[Cost]] = {"bare": [], "ours": []}
    for number in range(chosen.rounds + 1):
        pair = {
            name: Plan(
                model=chosen.model,
                data=data,
                epochs=chosen.epochs,
                imgsz=chosen.imgsz,
                batch=chosen.batch,
                params={"seed": 0, **({"device": chosen.device} if chosen.device else {})},
                folder=work / f"{name}-{number}",
            )
            for name in costs
        }
        turns: dict[str, Callable[[], float]] = {
            "bare": lambda pair=pair: bare(train, pair["bare"]),  # type: ignore[misc]
            "ours": lambda pair=pair: ours(train, pair["ours"], url),  # type: ignore[misc]
        }
        for name in sorted(turns, reverse=number % 2 == 0):
            cost = measured(turns[name])
            if number:
                costs[name].append(cost)
                sys.stderr.write(f"{number} {name}: {cost}\n")
    return _report(chosen, costs)


def _report(chosen: argparse.Namespace, costs: dict[str, list[Cost]]) -> dict[str, Any]:
    images = chosen.images * 3 // 4 * chosen.epochs
    fastest = min(cost.wall for cost in costs["ours"])
    return {
        "training": vars(chosen),
        "wall_percent": asdict(overhead(*([c.wall for c in costs[n]] for n in ("bare", "ours")))),
        "cpu_percent": asdict(overhead(*([c.cpu for c in costs[n]] for n in ("bare", "ours")))),
        "blocked_percent": _share(costs["ours"], lambda cost: cost.blocked),
        "beside_percent": _share(costs["ours"], lambda cost: cost.beside),
        "images_per_second": round(images / fastest, 1),
    }


def _share(costs: list[Cost], part: Callable[[Cost], float]) -> float:
    """Return how much of the time went there, in percent; the median."""
    return round(statistics.median(100 * part(cost) / cost.wall for cost in costs), 3)


def _data_set(chosen: argparse.Namespace, work: Path) -> Path:
    write_shapes(work / "shapes.zip", images=chosen.images, seed=0, size=chosen.imgsz)
    unpack(work / "shapes.zip", work / "dataset")
    prepare_dataset(work / "dataset", work / "data.yaml")
    return work / "data.yaml"


def main() -> None:
    """Read the command line, measure, and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument("--model", default="yolov8n.yaml")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--imgsz", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="", help="as ultralytics names it: cpu, 0")
    chosen = parser.parse_args()
    service = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, text=True
    )
    assert service.stdout is not None  # noqa: S101 - it was asked for
    try:
        url = f"http://127.0.0.1:{int(service.stdout.readline())}"
        with tempfile.TemporaryDirectory() as folder:
            found = compare(chosen, Path(folder), url)
    finally:
        service.terminate()
        service.wait()
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
