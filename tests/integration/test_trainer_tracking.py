"""Tracking against a real `mlflow server`: there, away, back, silent; one run over two attempts."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.mlflow import Heard, MlflowServer, by_key
from tests.polling import eventually
from trainer.mlflow_run import tags_of
from trainer.offline import offline_environment
from trainer.tracking import Tracking
from trainer.untold import Untold

pytestmark = pytest.mark.timeout(300)

# A server's start, or the import of MLflow, on a machine that does much else.
SLOW = 120.0
NOBODY = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        server.start()
        yield server


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in offline_environment(tmp_path, {}).items():
        if name.startswith(("MLFLOW_", "MPL")):
            monkeypatch.setenv(name, value)


def tracking_of(
    server: MlflowServer,
    job: int,
    heard: Heard,
    attempt: int = 1,
    url: str | None = None,
    untold: Path | None = None,
) -> Tracking:
    return Tracking(
        uri=url or server.url,
        run_name=f"job-{job}",
        tags=tags_of(job, attempt, f"trace-{job}", "http://127.0.0.1:8080"),
        say=heard,
        untold=untold,
    )


def steps_of(server: MlflowServer, run_id: str | None, metric: str = "mAP50") -> list[int]:
    assert run_id is not None
    return [step for step, _, _ in server.history(run_id, metric)]


async def test_a_run_holds_parameters_metrics_files_and_the_way_back(
    server: MlflowServer, tmp_path: Path
) -> None:
    heard = Heard()
    tracking = tracking_of(server, 1, heard)
    for name in ("best.pt", "args.yaml"):
        (tmp_path / name).write_text("content")
    (tmp_path / "results.csv").write_text("epoch,train/loss,val/loss\n1,3,4\n2,2,3\n")

    tracking.start({"batch": 4, "lr0": 0.01})
    for number in (1, 2):
        tracking.epoch(number, {"mAP50": number / 10, "train_loss": 1 / number})
    for name in ("best.pt", "args.yaml", "results.csv"):
        tracking.artifact(tmp_path / name)
    tracking.artifact(tmp_path / "results.png", drawn_from=tmp_path / "results.csv")
    run_id = tracking.finish("FINISHED", SLOW)

    assert tracking.conclude() == run_id
    assert heard.events == [("tracking_started", {"mlflow_run_id": run_id, "continued": False})]
    run = next(run for run in server.runs() if run["info"]["run_id"] == run_id)
    assert run["info"]["status"] == "FINISHED"
    assert by_key(run["data"]["params"]) == {"batch": "4", "lr0": "0.01"}
    assert tracking._tags.items() <= by_key(run["data"]["tags"]).items()
    assert [value for _, value, _ in server.history(run_id or "", "mAP50")] == [0.1, 0.2]
    assert server.files() >= {"best.pt", "args.yaml", "results.csv", "results.png"}


async def test_a_further_attempt_continues_the_run_and_says_what_cannot_be_changed(
    server: MlflowServer,
) -> None:
    first = tracking_of(server, 2, Heard())
    first.start({"batch": 4, "device": "cpu"})
    first.epoch(1, {"mAP50": 0.1})
    first.epoch(2, {"mAP50": 0.2})
    run_id = first.finish("KILLED", SLOW)
    heard = Heard()
    second = tracking_of(server, 2, heard, attempt=2)
    second.continue_run(run_id)

    second.start({"batch": 8, "device": "cpu", "resumed_from": "s3://bucket/last.pt", "new": 1})
    await eventually(lambda: heard.of("tracking_started"), within=SLOW)
    info = server.get(f"runs/get?run_id={run_id}")["run"]["info"]
    assert info["status"] == "RUNNING"
    second.epoch(2, {"mAP50": 0.25})
    second.epoch(3, {"mAP50": 0.3})

    assert second.finish("FINISHED", SLOW) == run_id
    second.conclude()
    run = server.get(f"runs/get?run_id={run_id}")["run"]
    assert run["info"]["status"] == "FINISHED"
    assert by_key(run["data"]["params"]) == {"batch": "4", "device": "cpu", "new": "1"}
    tags = by_key(run["data"]["tags"])
    assert tags["epochlog.attempt"] == "2"
    assert tags["epochlog.resumed_from"] == "s3://bucket/last.pt"
    # Of the epoch that was trained again both are there, and the later one is newer.
    history = server.history(run_id or "", "mAP50")
    assert [(step, value) for step, value, _ in history] == [
        (1, 0.1), (2, 0.2), (2, 0.25), (3, 0.3)
    ]  # fmt: skip
    assert history[1][2] < history[2][2]
    (refused,) = heard.of("mlflow_refused")
    assert "batch" in refused["message"]
    assert heard.kinds == ["mlflow_refused", "tracking_started", "mlflow_incomplete"]


async def test_a_run_whose_id_nobody_was_told_is_found_by_its_tags(server: MlflowServer) -> None:
    first = tracking_of(server, 3, Heard())
    first.start({})
    run_id = first.finish("KILLED", SLOW)
    heard = Heard()

    second = tracking_of(server, 3, heard, attempt=2)
    second.start({})

    assert second.finish("FINISHED", SLOW) == run_id
    assert heard.of("tracking_started") == [{"mlflow_run_id": run_id, "continued": True}]


async def test_a_kill_while_its_data_base_is_made_leaves_no_half_of_one(tmp_path: Path) -> None:
    opening = "from trainer.mlflow_run import open_run; import sys; open_run("
    opening += "uri=sys.argv[1], name='job-1', tags={}, began=0, earlier=None)"
    database = tmp_path / "mlflow.db"
    command = (sys.executable, "-c", opening, f"sqlite:///{database}")
    folder = Path(__file__).parents[2]

    def has_some_tables() -> bool:
        return any(tables_of(file) > 5 for file in tmp_path.rglob("*"))

    first = await asyncio.create_subprocess_exec(*command, cwd=folder)
    await eventually(has_some_tables, within=SLOW)
    first.kill()
    await first.wait()
    assert not database.exists(), "it has its name only once it is whole"
    second = await asyncio.create_subprocess_exec(*command, cwd=folder)

    assert await asyncio.wait_for(second.wait(), SLOW) == 0
    assert left_beside(database) == []


def left_beside(file: Path) -> list[Path]:
    return list(file.parent.glob(f".{file.name}.*"))


def tables_of(database: Path) -> int:
    """Count the tables of a SQLite file that another process may be writing."""
    try:
        with closing(sqlite3.connect(database, timeout=0)) as opened:
            (number,) = opened.execute("select count(*) from sqlite_master").fetchone()
    except sqlite3.DatabaseError:  # locked, or another kind of file
        return 0
    return int(number)


async def test_a_deleted_run_is_replaced_between_attempts_and_within_one(
    server: MlflowServer,
) -> None:
    first = tracking_of(server, 4, Heard())
    first.start({"batch": 4})
    deleted = first.finish("KILLED", SLOW)
    server.post("runs/delete", run_id=deleted)
    heard = Heard()
    second = tracking_of(server, 4, heard, attempt=2)
    second.continue_run(deleted)

    second.start({"batch": 4})
    await eventually(lambda: heard.of("tracking_started"), within=SLOW)
    replaced = second.run_id
    server.post("runs/delete", run_id=replaced)
    second.epoch(1, {"mAP50": 0.1})
    run_id = second.finish("FINISHED", SLOW)

    assert len({deleted, replaced, run_id}) == 3
    assert [one["mlflow_run_id"] for one in heard.of("mlflow_run_gone")] == [deleted, replaced]
    assert [one["mlflow_run_id"] for one in heard.of("tracking_started")] == [replaced, run_id]
    run = server.get(f"runs/get?run_id={run_id}")["run"]
    assert by_key(run["data"]["params"]) == {"batch": "4"}
    assert steps_of(server, run_id) == [1]


async def test_what_mlflow_refuses_is_left_out_alone(server: MlflowServer, tmp_path: Path) -> None:
    heard = Heard()
    tracking = tracking_of(server, 9, heard)

    tracking.start({"batch": 4, "no*name": 1})
    for number in (1, 2):
        tracking.epoch(number, {"mAP50": number / 10, "no*name": 1.0})
    tracking.artifact(tmp_path / "best.pt")
    run_id = tracking.finish("FINISHED", SLOW)
    tracking.conclude()

    assert steps_of(server, run_id) == [1, 2]
    run = server.get(f"runs/get?run_id={run_id}")["run"]
    assert by_key(run["data"]["params"]) == {"batch": "4"}
    assert run["info"]["status"] == "FINISHED"
    refused = [one["message"] for one in heard.of("mlflow_refused")]
    assert [message.split(":")[0] for message in refused] == [
        "MLflow refuses the parameter no*name",
        "MLflow refuses the metric no*name of epoch 1",
        "MLflow refuses the metric no*name of epoch 2",
        "MLflow refuses the file best.pt",
    ]
    assert heard.of("mlflow_incomplete")[0]["missed"] == 4
    assert "mlflow_unavailable" not in heard.kinds


async def test_a_server_that_takes_connections_and_never_answers_holds_nobody_up(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    tracking = tracking_of(server, 5, heard)
    tracking.start({"batch": 4})
    await eventually(lambda: tracking.run_id and not len(tracking._backlog), within=SLOW)
    server.pause()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    try:
        for number in range(1, 4):
            tracking.epoch(number, {"mAP50": number / 10})
        await eventually(lambda: tracking._outage.tries > 1, within=SLOW)
        tracking.finish("FINISHED", 0.5)
        tracking.conclude()
    finally:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        server.go_on()

    # What was asked several times, and answered later than anybody listened, is there once.
    await eventually(lambda: not len(tracking._backlog), within=SLOW)
    assert steps_of(server, tracking.run_id) == [1, 2, 3]
    (incomplete,) = heard.of("mlflow_incomplete")
    assert incomplete["missed"] == 4
    # Nothing is said behind the last word.
    assert heard.kinds == ["tracking_started", "mlflow_unavailable", "mlflow_incomplete"]


async def test_a_further_attempt_tells_what_the_one_before_it_could_not(
    server: MlflowServer, tmp_path: Path
) -> None:
    file = tmp_path / "untold"
    first = tracking_of(server, 8, Heard(), url=NOBODY, untold=file)
    first.start({"batch": 4})
    for number in (1, 2):
        first.epoch(number, {"mAP50": number / 10})
    first.finish("KILLED", 0)
    noted = [one.at for one in Untold(file).read()]
    heard = Heard()

    second = tracking_of(server, 8, heard, attempt=2, untold=file)
    second.start({"batch": 4})
    second.epoch(3, {"mAP50": 0.3})
    run_id = second.finish("FINISHED", SLOW)

    assert heard.kinds == ["tracking_started", "mlflow_recovered"]
    assert heard.of("mlflow_recovered")[0]["missed"] >= 2
    history = server.history(run_id or "", "mAP50")
    assert [(step, value) for step, value, _ in history] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert [at for _, _, at in history[:2]] == noted
    assert not file.exists()
    # Should the earlier one live after all, it tells nothing twice.
    first._uri = server.url
    await eventually(lambda: not len(first._backlog), within=SLOW)
    assert server.history(run_id or "", "mAP50") == history


async def test_what_an_outage_missed_is_told_once_with_its_own_time(server: MlflowServer) -> None:
    heard, late_heard = Heard(), Heard()
    tracking, late = tracking_of(server, 6, heard), tracking_of(server, 7, late_heard)
    tracking.start({"batch": 4})
    tracking.epoch(1, {"mAP50": 0.1, "loss": 3.0})
    await eventually(lambda: tracking.run_id and not len(tracking._backlog), within=SLOW)

    server.kill()
    late.start({"batch": 8})
    for number in (2, 3, 4):
        tracking.epoch(number, {"mAP50": number / 10, "loss": 3 / number})
        late.epoch(number, {"mAP50": number / 10})
    await eventually(lambda: min(tracking._outage.tries, late._outage.tries) > 2, within=SLOW)
    back = int(time.time() * 1000)
    server.start()
    tracking.epoch(5, {"mAP50": 0.5, "loss": 0.6})

    run_id = tracking.finish("FINISHED", SLOW)
    tracking.conclude()
    assert heard.kinds == ["tracking_started", "mlflow_unavailable", "mlflow_recovered"]
    assert 3 <= heard.of("mlflow_recovered")[0]["missed"] <= 5
    history = server.history(run_id or "", "mAP50")
    assert [(step, value) for step, value, _ in history] == [
        (1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (5, 0.5)
    ]  # fmt: skip
    assert [at < back for _, _, at in history] == [True] * 4 + [False]
    assert steps_of(server, run_id, "loss") == [1, 2, 3, 4, 5]
    run = server.get(f"runs/get?run_id={run_id}")["run"]
    assert run["info"]["status"] == "FINISHED"

    late_id = late.finish("FINISHED", SLOW)
    assert late_heard.kinds == ["mlflow_unavailable", "tracking_started", "mlflow_recovered"]
    assert steps_of(server, late_id) == [2, 3, 4]
    run = server.get(f"runs/get?run_id={late_id}")["run"]
    assert by_key(run["data"]["params"]) == {"batch": "8"}
    assert int(run["info"]["start_time"]) < back
