"""The command line against a running service: it shows what the API says."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from service.clusters import Cluster, Clusters
from tests.command_line import epochlog, started
from tests.http import Api
from tests.polling import eventually
from tests.processes import free_port

Environ = dict[str, str]


@pytest.fixture
def environ(shared_api: Api, tmp_path: Path) -> Environ:
    """What a person's shell holds who talks to a service elsewhere."""
    return shell(shared_api, tmp_path)


def shell(api: Api, folder: Path) -> Environ:
    return {
        "EPOCHLOG_PUBLIC_URL": api.service.url,
        "EPOCHLOG_API_TOKEN": api.service.api_token,
        "EPOCHLOG_STATE_DIR": str(folder / "other"),
    }


async def finished(api: Api, **fields: Any) -> Any:
    """Make a job that has succeeded, with a late callback that does not count."""
    job = await api.create_job(epochs=2, **fields)
    for epoch in (1, 2):
        metrics = {"mAP50": 0.25 * epoch, "train_loss": 1.5 / epoch}
        data = {"epoch": epoch, "metrics": metrics, "seconds": 3.5}
        await api.call_back(job, "event", {"type": "epoch_end", "data": data, "seq": 2 * epoch - 1})
        saved = {"epoch": epoch, "uri": f"s3://bucket/checkpoints/job-{job['id']}/last.pt"}
        await api.call_back(
            job, "event", {"type": "checkpoint_saved", "data": saved, "seq": 2 * epoch}
        )
    best = {"name": "best.pt", "uri": "s3://bucket/" + "long/" * 40 + "best.pt", "bytes": 2048}
    done = {"status": "succeeded", "mlflow_run_id": "run-1", "artifacts": [best], "seq": 6}
    await api.call_back(job, "done", done)
    await api.call_back(job, "heartbeat", {"seq": 7})
    return job


async def test_json_is_what_the_api_answers(shared_api: Api, environ: Environ) -> None:
    job = await finished(shared_api, labels={"team": "cli-json"})
    pages = ("", "/timeline", "/explain")

    ran = await asyncio.gather(
        *(
            epochlog(command, str(job["id"]), "--json", environ=environ)
            for command in ("status", "timeline", "explain")
        ),
        epochlog("jobs", "--label", "team=cli-json", "--json", environ=environ),
    )

    answers = [(await shared_api.get(f"/v1/jobs/{job['id']}{page}")).json for page in pages]
    answers.append((await shared_api.get("/v1/jobs", label="team=cli-json")).json)
    assert [one.json for one in ran] == answers
    assert {(one.code, one.err) for one in ran} == {(0, "")}


async def test_pages_tell_everything_in_plain_text(shared_api: Api, environ: Environ) -> None:
    job = await finished(shared_api, labels={"team": "cli-pages"})
    deciding = (await shared_api.get(f"/v1/jobs/{job['id']}/explain")).json["because"]

    status, timeline, explain, jobs = await asyncio.gather(
        epochlog("status", str(job["id"]), environ=environ),
        epochlog("timeline", str(job["id"]), environ=environ),
        epochlog("explain", str(job["id"]), environ=environ),
        epochlog("jobs", "--label", "team=cli-pages", environ=environ),
    )

    for page in (status, timeline, explain, jobs):
        assert (page.code, page.err) == (0, "")
        assert "succeeded" in page.out
        assert "\x1b" not in page.out
    for fact in ("epoch 2 of 2", "mAP50 0.5", "run-1", "long/" * 40 + "best.pt", job["trace_id"]):
        assert fact in status.out
    for fact in (
        "Attempt 1",
        "Epoch 1 complete",
        "Epoch 2 complete",
        "0.75",
        "callback 5 is missing",
    ):
        assert fact in timeline.out
    for event in deciding:
        assert f"#{event['position']}" in explain.out
    for fact in ("done_decides_success", "Set aside", "job_is_final"):
        assert fact in explain.out
    assert f" {job['id']} " in jobs.out


async def test_as_of_shows_the_past(shared_api: Api, environ: Environ) -> None:
    job = await finished(shared_api)
    events = (await shared_api.get(f"/v1/jobs/{job['id']}/events")).json["events"]
    epoch_1 = str(events[1]["position"])

    status, timeline, explain, by_time, jobs = await asyncio.gather(
        epochlog("status", str(job["id"]), "--as-of", epoch_1, "--json", environ=environ),
        epochlog("timeline", str(job["id"]), "--as-of", epoch_1, environ=environ),
        epochlog("explain", str(job["id"]), "--as-of", epoch_1, environ=environ),
        epochlog("status", str(job["id"]), "--as-of", events[0]["recorded_at"], environ=environ),
        epochlog("jobs", "--as-of", epoch_1, "--all", "--json", environ=environ),
    )

    assert (status.json["status"], status.json["progress"]["epoch"]) == ("running", 1)
    assert "Epoch 2" not in timeline.out
    assert "running" in explain.out
    assert "pending" in by_time.out
    assert (jobs.json["jobs"][0]["id"], jobs.json["jobs"][0]["status"]) == (job["id"], "running")


async def test_a_moment_is_seen_as_it_was_recorded_or_as_it_was(
    shared_api: Api, environ: Environ
) -> None:
    job = await shared_api.create_job()
    await shared_api.call_back(job, "heartbeat", {"epoch": 1})
    then = (await shared_api.events(job))[-1]["recorded_at"]
    await shared_api.call_back(job, "done", {"status": "succeeded", "occurred_at": then})
    commands = ("status", "timeline", "explain")

    ran = await asyncio.gather(
        *(
            epochlog(name, str(job["id"]), "--as-of", then, "--view", view, environ=environ)
            for view in ("recorded", "occurred")
            for name in commands
        ),
        epochlog("status", "1", "--as-of", "1", "--view", "occurred", environ=environ),
    )

    for page in ran[:3]:
        assert "● running" in page.out
        assert "succeeded" not in page.out
    for page in ran[3:6]:
        assert "● succeeded" in page.out
    assert ran[6].failed_with("needs a time", code=2)


async def test_the_fleet_is_shown_now_and_then(api: Api, tmp_path: Path) -> None:
    environ = shell(api, tmp_path)
    job = await api.create_job(model_name="a-model-of-its-own", epochs=7)
    before = (await api.events(job))[-1]["position"]
    await api.call_back(job, "heartbeat", {"epoch": 2})
    running = (await api.events(job))[-1]["position"]

    then, past, empty, diff, nothing, back = await asyncio.gather(
        epochlog("fleet", "--as-of", str(running), environ=environ),
        epochlog("fleet", "--as-of", str(before), "--json", environ=environ),
        epochlog("fleet", "--as-of", "0", environ=environ),
        epochlog("fleet-diff", str(before), str(running), environ=environ),
        epochlog("fleet-diff", "0", "0", environ=environ),
        epochlog("fleet-diff", "2", "1", environ=environ),
    )

    line = next(line for line in then.out.splitlines() if "a-model-of-its-own" in line)
    assert line.split()[:2] == [str(job["id"]), "●"]
    assert "running" in line
    assert "2/7" in line
    assert f"position {running}" in then.out
    shown = (await api.get("/v1/fleet", as_of=before)).json
    assert (past.json, past.json["jobs"][0]["status"]) == (shown, "pending")
    assert "There was no job yet." in empty.out
    change = next(line for line in diff.out.splitlines() if line.split()[:1] == [str(job["id"])])
    for word in ("pending", "running", "healthy", "called_back"):
        assert word in change
    assert "No job's status" in nothing.out
    assert back.failed_with("from must not be after to", code=2)


async def is_queued(api: Api, job: Any) -> bool:
    """Whether the job waits for its trainer: it stays so until that calls back."""
    return bool((await api.get(f"/v1/jobs/{job['id']}")).json["status"] == "queued")


async def test_the_fleet_of_now_is_what_the_api_answers(api: Api, tmp_path: Path) -> None:
    environ = shell(api, tmp_path)
    job = await api.create_job()
    await eventually(lambda: is_queued(api, job))

    fleet, diff = await asyncio.gather(
        epochlog("fleet", "--json", environ=environ),
        epochlog("fleet-diff", "0", "--json", environ=environ),
    )

    assert fleet.json["jobs"] == (await api.get("/v1/fleet")).json["jobs"]
    assert diff.json["jobs"] == (await api.get("/v1/fleet/diff", **{"from": 0})).json["jobs"]


async def test_wrong_usage_is_one_sentence_that_names_it(environ: Environ) -> None:
    cases = {
        "status x": "'ID'",
        "status": "'ID'",
        "status 1 --nonsense": "--nonsense",
        "nonsense": "nonsense",
        "status 1 --as-of yesterday": "as_of",
        "jobs --status finished": "--status",
        "submit data yolov8n --epochs 0": "epochs",
        "submit data yolov8n --epochs 1 --label team": "--label",
        "submit data yolov8n --epochs 1 --watch --json": "--watch",
        "token create --role king": "'--role': 'king' is not one of",
        "token create": "Choose from: viewer, operator, admin",
        f"submit data yolov8n --epochs {10**30}": "epochs cannot be sent",
        "submit data yolov8n --epochs 1 --param a=\udcff": "params cannot be sent",
        "submit data yolov8n --epochs 1 --idempotency-key a\x01b": "visible characters",
        "submit ü yolov8n --epochs 1": "dataset_id: needs letters, digits",
    }

    ran = await asyncio.gather(*(epochlog(*words.split(), environ=environ) for words in cases))

    for one, named in zip(ran, cases.values(), strict=True):
        assert one.failed_with(named, code=2)


async def test_what_cannot_be_done_is_one_sentence(environ: Environ, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    cases: list[tuple[str, Environ, str]] = [
        ("status 999999", {}, "There is no job 999999."),
        ("cancel 999999", {}, "There is no job 999999."),
        ("jobs", {"EPOCHLOG_API_TOKEN": "wrong"}, "not one of ours"),
        ("jobs", {"EPOCHLOG_API_TOKEN": ""}, "EPOCHLOG_API_TOKEN needs"),
        ("jobs", {"EPOCHLOG_PUBLIC_URL": nobody}, f"No service answers at {nobody}"),
        ("jobs", {"EPOCHLOG_PORT": "many"}, "EPOCHLOG_PORT needs"),
        ("serve", {"EPOCHLOG_DATABASE_URL": "postgresql://nowhere/x"}, "EPOCHLOG_SECRET_KEY needs"),
        ("jobs", {"EPOCHLOG_PUBLIC_URL": ""}, "holds no database yet"),
        ("submit data yolov8n --epochs 1", {"EPOCHLOG_PUBLIC_URL": ""}, "No service runs"),
    ]

    ran = await asyncio.gather(
        *(epochlog(*words.split(), environ={**environ, **more}) for words, more, _ in cases)
    )

    for one, (_, _, sentence) in zip(ran, cases, strict=True):
        assert one.failed_with(sentence)
    assert not (tmp_path / "state").exists()


async def test_a_full_disk_under_stdout_is_one_sentence(environ: Environ, shared_api: Api) -> None:
    job = str((await shared_api.create_job())["id"])

    for words in (["status", job], ["jobs", "--json"], ["--help"]):
        ran = await asyncio.to_thread(on_a_full_disk, words, environ)

        assert ran.returncode == 1, words
        assert ran.stderr == "epochlog: The output cannot be written: No space left on device.\n"


def on_a_full_disk(words: list[str], environ: Environ) -> subprocess.CompletedProcess[str]:
    """Run a command whose output nobody can take."""
    with Path("/dev/full").open("wb") as full:
        return subprocess.run(
            [sys.executable, "-m", "service", *words],
            env={**os.environ, **environ},
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
        )


async def test_an_empty_key_is_refused_and_a_parameter_that_is_no_json_is_text(
    shared_api: Api, environ: Environ
) -> None:
    words = ["submit", "data", "yolov8n", "--epochs", "1"]

    refused = await epochlog(*words, "--idempotency-key", "", environ=environ)
    made = await epochlog(*words, "--json", "--param", "a=NaN", "--param", "b=1", environ=environ)

    assert refused.failed_with("Idempotency-Key needs 1 to 200 visible characters", code=2)
    assert made.json["params"] == {"a": "NaN", "b": 1}


async def test_a_variable_that_is_no_setting_is_mentioned(environ: Environ) -> None:
    ran = await epochlog("jobs", environ={**environ, "EPOCHLOG_HEARTBEAT_TIMOUT": "3"})

    assert ran.code == 0
    assert "did you mean EPOCHLOG_HEARTBEAT_TIMEOUT?" in ran.err


async def test_submit_sends_all_that_was_asked_for(shared_api: Api, environ: Environ) -> None:
    words = shlex.split(
        "submit data yolov8n --epochs 3 --max-retries 0 --imgsz 64 --batch 8 --priority 5"
        " --param lr0=0.01 --param optimizer=SGD --label team=cli --idempotency-key cli-1 --json"
    )

    first, again = await asyncio.gather(*(epochlog(*words, environ=environ) for _ in range(2)))

    assert first.json["id"] == again.json["id"]
    made = (await shared_api.get(f"/v1/jobs/{first.json['id']}")).json
    assert made["params"] == {"lr0": 0.01, "optimizer": "SGD"}
    assert (made["max_retries"], made["imgsz"], made["batch"]) == (0, 64, 8)
    assert (made["priority"], made["labels"]) == (5, {"team": "cli"})


async def test_submit_names_a_cluster(api: Api, environ: Environ) -> None:
    here = {
        **environ,
        "EPOCHLOG_PUBLIC_URL": api.service.url,
        "EPOCHLOG_API_TOKEN": api.service.api_token,
    }
    words = shlex.split("submit data yolov8n --epochs 3 --cluster a100")

    refused = await epochlog(*words, environ=here)
    api.service.instance.clusters = Clusters((Cluster(name="a100"),))
    made = await epochlog(*words, "--json", environ=here)
    shown = await epochlog("status", str(made.json["id"]), environ=here)

    assert refused.failed_with("cluster needs to be absent", code=2)
    assert made.json["cluster"] == "a100"
    assert "a100" in shown.out


async def test_cancel_ends_a_job_once(shared_api: Api, environ: Environ) -> None:
    job = await shared_api.create_job()

    first = await epochlog(
        "cancel", str(job["id"]), "--reason", "a test", "--wait", environ=environ
    )
    again = await epochlog("cancel", str(job["id"]), environ=environ)
    other = await shared_api.create_job()
    told = await epochlog("cancel", str(other["id"]), "--json", environ=environ)

    assert told.json == (await shared_api.get(f"/v1/jobs/{other['id']}")).json
    assert (first.code, "cancelled" in first.out) == (0, True)
    assert again.failed_with("cancelled")


async def test_a_token_that_was_made_opens_what_its_role_may(environ: Environ) -> None:
    made = await epochlog("token", "create", "--role", "viewer", environ=environ)
    viewer = {**environ, "EPOCHLOG_API_TOKEN": made.out.strip()}

    reads, writes = await asyncio.gather(
        epochlog("jobs", "--limit", "1", environ=viewer),
        epochlog("submit", "data", "yolov8n", "--epochs", "1", environ=viewer),
    )

    assert reads.code == 0
    assert writes.failed_with("operator")


@pytest.mark.parametrize(("said", "code"), [("succeeded", 0), ("failed", 1)])
async def test_watch_tells_what_happens_while_it_happens(
    shared_api: Api, environ: Environ, said: str, code: int
) -> None:
    job = await shared_api.create_job(epochs=1, max_retries=0)
    async with started("watch", str(job["id"]), environ=environ) as watch:
        assert watch.stdout is not None

        async def heard(words: str) -> str:
            assert watch.stdout is not None
            while words not in (line := (await watch.stdout.readline()).decode()):
                assert line, f"it ended without {words}"
            return line

        await asyncio.wait_for(heard("Created"), 30)
        data = {"epoch": 1, "metrics": {"mAP50": 0.5}}
        await shared_api.call_back(job, "event", {"type": "epoch_end", "data": data})
        assert "mAP50 0.5" in await asyncio.wait_for(heard("Epoch 1 complete"), 30)
        await shared_api.call_back(job, "heartbeat", {"epoch": 1})
        done = {"status": said, "error": {"code": "oom", "message": "No memory is left."}}
        await shared_api.call_back(job, "done", done if said == "failed" else {"status": said})
        last = await asyncio.wait_for(heard(f"● {said}"), 30)

        assert "\x1b" not in last
        assert await asyncio.wait_for(watch.wait(), 30) == code


async def test_two_services_do_not_share_a_port(environ: Environ) -> None:
    port = str(urlsplit(environ["EPOCHLOG_PUBLIC_URL"]).port)

    ran = await epochlog("serve", environ={**environ, "EPOCHLOG_PORT": port})

    assert (ran.code, ran.out) == (1, "")
    assert "EPOCHLOG_PORT needs a port that is free" in ran.err.splitlines()[-1]


def test_the_version_is_told() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "service", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert re.fullmatch(r"epochlog \d+\.\d+\.\d+\n", told.stdout)
