"""MLflow's tracking server on the same PostgreSQL: one metric a request.

It keeps its usual number of workers and may use every core; its pool of connections is made large
enough, because with its default requests wait for a connection until they fail.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import aiohttp

from bench.contender import BenchError, Contender, Measure, Measured
from bench.cores import ALL
from bench.load import Load
from bench.ours import send
from bench.process import serving
from bench.stage import Stage

CONNECTIONS = 32
ENVIRON = {
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "16",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "16",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}


async def _open(stage: Stage) -> Measure:
    command = Path(sys.executable).with_name("mlflow")
    if not command.exists():
        raise BenchError("MLflow is not installed: it comes with the extra `bench`.")
    words = ("server", "--backend-store-uri", await stage.database(), "--port", str(_free_port()))
    root = ("--default-artifact-root", str(stage.folder / "mlflow"))
    log = stage.folder / "mlflow.log"
    server = serving(str(command), *words, *root, log=log, cores=ALL, environ=ENVIRON)
    port = await stage.stack.enter_async_context(server)
    load = Load(
        port=port,
        connections=CONNECTIONS,
        seconds=stage.pace.seconds,
        warm_up=stage.pace.warm_up,
        kind="metrics",
        run_ids=await _make_runs(port),
    )

    async def measure() -> Measured:
        seen = await send(load)
        return seen.measured()

    return measure


async def _make_runs(port: int) -> list[str]:
    """Return a run for each connection."""
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/create"
    ids = []
    async with aiohttp.ClientSession() as session:
        for _ in range(CONNECTIONS):
            said = {"experiment_id": "0", "start_time": 0}
            async with session.post(url, json=said, raise_for_status=True) as response:
                ids.append(str((await response.json())["run"]["info"]["run_id"]))
    return ids


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


LOG_METRIC = Contender(f"MLflow log-metric, {CONNECTIONS} connections", "requests/s", _open)
