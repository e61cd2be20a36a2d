"""docs/api.md says what is so: its examples run, and no route, field, code or rule is left out."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from yarl import URL

from projections.events import KINDS
from projections.health import Verdict
from projections.rules import SENTENCES
from service.api import ROUTES
from service.openapi import error_codes
from service.routing import Route
from service.storage_keys import PART
from tests.conftest import StartService
from tests.http import Api
from tests.polling import eventually
from tests.s3 import KEY, SECRET, s3_server

DOCUMENT = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SOCKETS = {f"{route.method} {route.path}" for route in ROUTES if route.is_websocket}
ROUTED = [f"{route.method} {route.path}" for route in ROUTES] + ["GET /v1/openapi.json"]


@dataclass(frozen=True, slots=True)
class Example:
    """A block of code, and the answer that the page shows behind it."""

    section: str
    language: str
    code: str
    shown: Any = None


def _examples() -> list[Example]:
    found: list[Example] = []
    for title, text in _sections().items():
        for language, code in FENCED.findall(text):
            if language in {"sh", "python"}:
                found.append(Example(title, language, code))
            elif language == "json" and found and found[-1].section == title:
                last = found.pop()
                found.append(Example(title, last.language, last.code, json.loads(code)))
    return found


def _sections() -> dict[str, str]:
    _, *parts = re.split(r"^##+ (.*)$", DOCUMENT, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


EXAMPLES = _examples()
PRELUDE = EXAMPLES[0]
OWN_TRAINER = "A trainer of your own"
ELSEWHERE = ("/logs", "/storage/")  # they need a service of their own, below


@pytest_asyncio.fixture
async def environment(shared_api: Api) -> dict[str, str]:
    """What the page says to export, for a job that has a little of everything behind it."""
    job = await shared_api.create_job(labels={"team": "vision"})
    saved = {"epoch": 1, "uri": "s3://bucket/last.pt"}
    for kind, body in (
        ("heartbeat", {"epoch": 1, "metrics": {"loss": 1}, "seq": 1}),
        ("event", {"type": "epoch_end", "data": {"epoch": 1}, "seq": 2}),
        ("event", {"type": "checkpoint_saved", "data": saved, "seq": 3}),
        ("heartbeat", {"seq": 5}),
    ):
        assert (await shared_api.call_back(job, kind, body)).status == 200
    return _exported(shared_api, job)


def _exported(api: Api, job: Any) -> dict[str, str]:
    return {
        "BASE_URL": api.service.url,
        "API_TOKEN": api.service.api_token,
        "JOB_ID": str(job["id"]),
        "CALLBACK_TOKEN": job.get("callback_token", ""),
    }


async def _run(example: Example, environment: dict[str, str]) -> str:
    """Run the example as a reader would; what it printed."""
    if example.language == "sh":
        command = ["bash", "-euo", "pipefail", "-c", example.code]
    else:
        command = [sys.executable, "-W", "error", "-c", f"{PRELUDE.code}\n\n{example.code}"]
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, (example.code, out.decode(), err.decode())
    assert err == b""
    return out.decode()


def _has_shape(shown: Any, given: Any, place: str = "answer") -> bool:
    """Fail unless all that is shown is there, with the kind of value that is shown."""
    if isinstance(shown, dict):
        for name, value in shown.items():
            assert name in given, f"{place} has no {name}: {given}"
            _has_shape(value, given[name], f"{place}.{name}")
    elif isinstance(shown, list) and shown:
        assert given, f"{place} is empty"
        _has_shape(shown[0], given[0], f"{place}.0")
    elif shown is not None and not isinstance(shown, list):
        alike = (int, float) if isinstance(shown, int | float) else type(shown)
        assert isinstance(given, alike), f"{place} is {given!r}"
    return True


@pytest.mark.parametrize(
    "example",
    [
        each
        for each in EXAMPLES
        if each.section != OWN_TRAINER and not any(part in each.section for part in ELSEWHERE)
    ],
    ids=lambda example: f"{example.section} in {example.language}",
)
async def test_an_example_runs_and_is_answered_as_shown(
    example: Example, environment: dict[str, str]
) -> None:
    out = await _run(example, environment)

    if example.shown is not None and example.language == "sh":
        assert _has_shape(example.shown, json.loads(out))


async def test_the_examples_of_logs_show_what_the_process_printed(
    start_service: StartService,
) -> None:
    api = await start_service(
        EPOCHLOG_EXECUTOR="local", EPOCHLOG_TRAINER_COMMAND="echo these are the logs"
    )
    job = await api.create_job()

    async def printed() -> bool:
        return "these" in (await api.get(f"/v1/jobs/{job['id']}/logs")).text

    await eventually(printed)
    for example in EXAMPLES:
        if "/logs" in example.section:
            assert "these are the logs" in await _run(example, _exported(api, job))


async def test_the_examples_of_the_storage_reach_a_real_store(
    start_service: StartService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("R2_SECRET_ACCESS_KEY", SECRET)
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    with s3_server(tmp_path / "s3") as endpoint:
        api = await start_service(
            EPOCHLOG_STORAGE_TYPE="s3",
            EPOCHLOG_STORAGE_ACCESS="presigned",
            EPOCHLOG_BUCKET="bucket",
            EPOCHLOG_S3_ENDPOINT=endpoint,
        )
        job = await api.create_job()
        for example in EXAMPLES:
            if "/storage/" not in example.section:
                continue
            begun = await _begun_upload(api, job) if "upload" in example.code else {}
            out = await _run(example, _exported(api, job) | begun)
            if example.shown is not None and example.language == "sh":
                assert _has_shape(example.shown, json.loads(out))

    attempt = tmp_path / "s3" / "bucket" / "checkpoints" / f"job-{job['id']}" / "attempt-1"
    assert (attempt / "best.pt").read_bytes() == b"hello"
    assert (attempt / "large.pt").stat().st_size == PART + 1


async def _begun_upload(api: Api, job: Any) -> dict[str, str]:
    """Send the parts of a large object; what `complete` and `abort` are told of them."""
    content = bytes(PART + 1)
    wanted = {
        "key": f"checkpoints/job-{job['id']}/attempt-1/large.pt",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    signed = (await api.call_back(job, "storage/put", wanted)).json
    etags = {}
    async with aiohttp.ClientSession() as session:
        for part in signed["parts"]:
            start = (part["number"] - 1) * signed["part_bytes"]
            data = io.BytesIO(content[start : start + signed["part_bytes"]])
            async with session.put(URL(part["url"], encoded=True), data=data) as answer:
                etags[f"ETAG_{part['number']}"] = answer.headers["ETag"].strip('"')
    return {"UPLOAD_ID": signed["upload_id"], **etags}


async def test_the_trainer_of_ones_own_succeeds_and_hears_of_a_cancel(
    shared_api: Api, environment: dict[str, str]
) -> None:
    own = next(example for example in EXAMPLES if example.section == OWN_TRAINER)
    job_id = environment["JOB_ID"]
    assert (await shared_api.get(f"/v1/jobs/{job_id}")).json["status"] == "running"

    fresh = await shared_api.create_job()
    await _run(own, _exported(shared_api, fresh))
    await shared_api.post(f"/v1/jobs/{job_id}/cancel")
    beats = Example(own.section, own.language, own.code.replace("seq=epoch", "seq=epoch + 9"))
    await _run(beats, environment)

    shown = (await shared_api.get(f"/v1/jobs/{fresh['id']}")).json
    assert (shown["status"], shown["progress"]["epoch"]) == ("succeeded", 3)
    assert (await shared_api.get(f"/v1/jobs/{job_id}")).json["status"] == "cancelled"
    assert len(own.code.splitlines()) <= 17


def test_every_route_has_a_section_with_curl_and_python() -> None:
    for name in ROUTED:
        languages = {example.language for example in EXAMPLES if example.section == name}
        wanted = {"python"} if name in SOCKETS else {"sh", "python"}  # curl knows no WebSocket
        assert languages == wanted, name
        code = [example.code for example in EXAMPLES if example.section == name]
        path = name.split()[1].removeprefix("/v1/jobs/{id}")
        assert all(path in text for text in code), name
        assert name in SOCKETS or any(text.startswith("curl ") for text in code), name


def test_no_section_is_of_a_route_that_is_not_there() -> None:
    named = [title for title in _sections() if re.match("(GET|POST|PUT|DELETE) ", title)]

    assert sorted(named) == sorted(ROUTED)


@pytest.mark.parametrize(
    "route", ROUTES, ids=lambda route: f"{route.method} {route.path}" if route else ""
)
def test_every_field_and_parameter_is_explained(route: Route[Any, Any]) -> None:
    section = _sections()[f"{route.method} {route.path}"]
    shared = _sections()["The callback API"]

    for field, info in (route.body or route.query).model_fields.items():
        name = info.alias or field
        assert f"`{name}`" in section + (shared if route.access == "callback" else ""), name


def test_every_error_code_is_explained() -> None:
    errors = _sections()["Errors"]

    for status, codes in error_codes().items():
        for code in codes:
            assert re.search(rf"^\| {status} \| .*`{code}`", errors, re.MULTILINE), code


def test_rules_types_and_verdicts_are_those_of_the_code() -> None:
    told = dict(
        re.findall(r"^\| `(\w+)` \| (.*) \|$", _sections()["The callback API"], re.MULTILINE)
    )

    for rule, sentence in SENTENCES.items():
        assert told.get(rule, sentence) == sentence
    assert {"job_is_final", "stale_attempt", "unknown_attempt", "attempt_is_done"} <= set(told)
    types = _sections()["GET /v1/jobs/{id}/events"].rpartition("The types:")[2]
    assert set(re.findall(r"`([a-z_]+)`", types)) == set(KINDS)
    assert all(f"`{verdict}`" in _sections()["POST /v1/jobs"] for verdict in Verdict)
