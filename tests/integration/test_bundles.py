"""An incident leaves one service in a zip and arrives in another, whole and with its proof."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import aiohttp
import pytest
import pytest_asyncio

from projections.chain import GENESIS, link
from service.bundle import Chain, line_of, record_in
from tests.command_line import epochlog, started
from tests.conftest import StartService
from tests.growth import EVENTS_A_RANGE, compacted, trained
from tests.http import Api
from tests.incidents import (
    FAILED_JOB,
    MARKUP,
    RUNNING_JOB,
    SECRET,
    WAITING_JOB,
    Incident,
    empty_instance,
    have_incident,
    rewritten,
)
from tests.processes import ServiceProcess, living_in

JSON_FILES = {"job.json": "", "timeline.json": "/timeline", "explain.json": "/explain"}


@pytest_asyncio.fixture(scope="module")
async def incident() -> AsyncIterator[Incident]:
    with ServiceProcess() as service:
        yield await have_incident(service)


@pytest.fixture
def bundle(incident: Incident) -> Iterator[ZipFile]:
    with ZipFile(incident.bundles[FAILED_JOB]) as file:
        yield file


@pytest.fixture
def elsewhere() -> Iterator[ServiceProcess]:
    with empty_instance() as service:
        yield service


def test_a_bundle_holds_what_its_manifest_says(bundle: ZipFile) -> None:
    manifest = json.loads(bundle.read("manifest.json"))

    assert manifest["job_id"] == FAILED_JOB
    assert set(manifest["files"]) | {"manifest.json"} == set(bundle.namelist())
    for name, said in manifest["files"].items():
        content = bundle.read(name)
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (
            said["sha256"],
            said["bytes"],
        )
    names = set(bundle.namelist())
    assert {"README.txt", "index.html", "logs/attempt-1.txt", "logs/attempt-2.txt"} <= names
    events = [json.loads(line) for line in bundle.read("events.ndjson").splitlines()]
    evidence = next(event for event in events if event["type"] == "evidence")
    kept = f"evidence/{evidence['version']:06}-log_tail.json"
    assert [name for name in names if name.startswith("evidence/")] == [kept]
    assert json.loads(bundle.read(kept)) == evidence


def test_its_files_are_what_the_api_answers(incident: Incident, bundle: ZipFile) -> None:
    path = f"/v1/jobs/{FAILED_JOB}"
    for name, view in JSON_FILES.items():
        assert json.loads(bundle.read(name)) == incident.answers[path + view]
    events = [json.loads(line) for line in bundle.read("events.ndjson").splitlines()]
    assert events == incident.answers[f"{path}/events?limit=1000"]["events"]
    assert events[-1]["position"] > len(events)  # other jobs wrote between


def test_what_looks_like_a_secret_was_taken_out(bundle: ZipFile) -> None:
    for name in bundle.namelist():
        assert SECRET.encode() not in bundle.read(name), name
    assert (
        f"Authorization: Bearer [redacted]\n{MARKUP}\n"
        in bundle.read("logs/attempt-1.txt").decode()
    )


def _readmes_check(folder: Path, readme: str) -> subprocess.CompletedProcess[str]:
    """Run the program that README.txt shows, with nothing but Python."""
    text = readme[readme.index("    import hashlib") : readme.index("That shows")]
    return subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(text)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_anybody_can_check_it_with_the_program_in_its_readme(
    incident: Incident, bundle: ZipFile, tmp_path: Path
) -> None:
    readme = bundle.read("README.txt").decode()
    name = f"epochlog-job-{FAILED_JOB}.zip"
    lines = bundle.read("events.ndjson").replace(b'"epoch":2', b'"epoch":3', 1)
    manifest = _with_true_hashes(bundle, {"events.ndjson": lines})

    rewritten(incident.bundles[FAILED_JOB], tmp_path / name, {})
    whole = _readmes_check(tmp_path, readme)
    rewritten(incident.bundles[FAILED_JOB], tmp_path / name, {"events.ndjson": lines})
    damaged = _readmes_check(tmp_path, readme)
    forged = {"events.ndjson": lines, "manifest.json": manifest}
    rewritten(incident.bundles[FAILED_JOB], tmp_path / name, forged)
    altered = _readmes_check(tmp_path, readme)

    assert whole.stdout.startswith("whole: {'version': "), whole
    assert "AssertionError: events.ndjson" in damaged.stderr
    assert "AssertionError: b'{" in altered.stderr


def _with_true_hashes(bundle: ZipFile, changes: dict[str, bytes]) -> bytes:
    manifest = json.loads(bundle.read("manifest.json"))
    for name, content in changes.items():
        sha256 = hashlib.sha256(content).hexdigest()
        manifest["files"][name] = {"sha256": sha256, "bytes": len(content)}
    return json.dumps(manifest).encode()


async def test_an_imported_job_answers_as_it_did_where_it_comes_from(
    incident: Incident, elsewhere: ServiceProcess
) -> None:
    path = str(incident.bundles[FAILED_JOB])
    checked = await epochlog("import", path, "--check", "--json", environ=elsewhere.environ)
    assert not elsewhere.state.exists()
    told = await epochlog("import", path, "--json", environ=elsewhere.environ)
    assert told.json == {**checked.json, "imported": True}
    assert living_in(elsewhere.state) == []

    elsewhere.start()
    for asked, answer in incident.answers.items():
        assert elsewhere.call("GET", asked) == answer, asked
    verified = await epochlog("verify", environ=elsewhere.environ)
    busy = await epochlog("import", path, environ=elsewhere.environ)
    output = elsewhere.text(f"/v1/jobs/{FAILED_JOB}/logs?attempt=1")
    copy = elsewhere.folder / "copy.zip"
    await epochlog("export", str(FAILED_JOB), "-o", str(copy), environ=elsewhere.environ)
    assert elsewhere.stop() == 0
    again = await epochlog("import", path, environ=elsewhere.environ)

    assert verified.code == 0, verified
    assert output.endswith(f"{MARKUP}\n")
    assert busy.failed_with("Another service")
    assert again.failed_with("whose log is empty")
    with ZipFile(copy) as copied, ZipFile(path) as original:
        assert copied.read("events.ndjson") == original.read("events.ndjson")
        held = [json.loads(file.read("manifest.json")) for file in (copied, original)]
        assert held[0]["log_id"] == held[1]["log_id"]


@pytest.mark.parametrize(("job_id", "status"), [(RUNNING_JOB, "running"), (WAITING_JOB, "queued")])
async def test_an_imported_job_is_looked_at_and_never_driven(
    incident: Incident, elsewhere: ServiceProcess, job_id: int, status: str
) -> None:
    path = incident.bundles[job_id]
    assert (await epochlog("import", str(path), environ=elsewhere.environ)).code == 0
    replayed = await epochlog("replay", "--check", environ=elsewhere.environ)
    assert replayed.code == 0, replayed
    elsewhere.start()
    with ZipFile(path) as bundle:
        exported = {name: json.loads(bundle.read(name)) for name in JSON_FILES}
    assert exported["job.json"]["status"] == status

    own = elsewhere.submit(epochs=1)
    elsewhere.wait_for(own["id"], "succeeded")  # the supervisor has made its rounds
    cancel = await epochlog("cancel", str(job_id), environ=elsewhere.environ)
    token = await _posted(elsewhere, f"/v1/jobs/{job_id}/token")

    assert own["id"] == job_id + 1
    assert own["position"] == exported["job.json"]["position"] + 1
    for name, view in JSON_FILES.items():
        assert elsewhere.call("GET", f"/v1/jobs/{job_id}{view}") == exported[name]
    assert [line.split()[0] for line in elsewhere.notes("launches")] == [f"{own['id']}/1"]
    assert cancel.failed_with(f"Job {job_id} was imported")
    assert token == (409, "job_is_imported")
    assert (await epochlog("verify", environ=elsewhere.environ)).code == 0


async def _posted(service: ServiceProcess, path: str) -> tuple[int, str]:
    token = (service.state / "api-token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(service.url + path) as answer,
    ):
        return answer.status, (await answer.json(content_type=None))["code"]


Damage = Callable[[ZipFile], dict[str, bytes | None]]


def _flip(name: str) -> Damage:
    """Change one byte of a file."""

    def damage(bundle: ZipFile) -> dict[str, bytes | None]:
        content = bundle.read(name)
        return {name: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]}

    return damage


def _forge(change: Callable[[list[bytes]], list[bytes]]) -> Damage:
    """Change the events, and make the manifest say that this is right."""

    def damage(bundle: ZipFile) -> dict[str, bytes | None]:
        lines = b"".join(change(bundle.read("events.ndjson").splitlines(keepends=True)))
        return {
            "events.ndjson": lines,
            "manifest.json": _with_true_hashes(bundle, {"events.ndjson": lines}),
        }

    return damage


def _told(**fields: Any) -> Damage:
    """Change what the manifest says."""

    def damage(bundle: ZipFile) -> dict[str, bytes | None]:
        return {
            "manifest.json": json.dumps(json.loads(bundle.read("manifest.json")) | fields).encode()
        }

    return damage


DAMAGES: dict[str, tuple[Damage, str]] = {
    "events": (_flip("events.ndjson"), "events.ndjson is not what its manifest says"),
    "job": (_flip("job.json"), "job.json is not what its manifest says"),
    "viewer": (_flip("index.html"), "index.html is not what its manifest says"),
    "log": (_flip("logs/attempt-2.txt"), "logs/attempt-2.txt is not what its manifest says"),
    "missing": (lambda _: {"explain.json": None}, "explain.json is missing"),
    "added": (lambda _: {"evidence/x.json": b"{}"}, "its manifest does not know evidence/x.json"),
    "no manifest": (lambda _: {"manifest.json": None}, "manifest.json is missing"),
    "no bundle": (lambda _: {"manifest.json": b"{}"}, "is no incident bundle"),
    "newer": (_told(format_version=2), "this version reads up to 1"),
    "another job": (_told(job_id=77), "events.ndjson tells of another job"),
    "cut off": (_forge(lambda lines: lines[:-1]), "does not end at version"),
    "left out": (
        _forge(lambda lines: lines[:3] + lines[4:]),
        "event 4 in events.ndjson is missing",
    ),
    "altered": (
        _forge(lambda lines: [line.replace(b'"epoch":2', b'"epoch":1') for line in lines]),
        "in events.ndjson does not have the hash",
    ),
    "empty": (_forge(lambda _: []), "does not end at version"),
}


@pytest.mark.parametrize("kind", DAMAGES)
async def test_a_damaged_bundle_is_refused_by_name_and_nothing_is_written(
    incident: Incident, bundle: ZipFile, tmp_path: Path, kind: str
) -> None:
    damage, sentence = DAMAGES[kind]
    path = rewritten(incident.bundles[FAILED_JOB], tmp_path / "bundle.zip", damage(bundle))
    state = tmp_path / "state"
    environ = {"EPOCHLOG_STATE_DIR": str(state)}

    for words in (("import", str(path)), ("import", "--check", str(path))):
        assert (await epochlog(*words, environ=environ)).failed_with(sentence)
    assert not state.exists()


async def test_what_is_no_zip_is_refused(incident: Incident, tmp_path: Path) -> None:
    environ = {"EPOCHLOG_STATE_DIR": str(tmp_path / "state")}
    half = tmp_path / "half.zip"
    whole = incident.bundles[FAILED_JOB].read_bytes()
    half.write_bytes(whole[: len(whole) // 2])

    assert (await epochlog("import", str(half), environ=environ)).failed_with(
        "not a whole zip file"
    )
    strange = bytearray(whole)
    strange[whole.rindex(b"PK\x01\x02") + 6] = 255  # the version of zip that an entry needs
    half.write_bytes(strange)
    assert (await epochlog("import", str(half), environ=environ)).failed_with(
        "not a whole zip file"
    )
    assert (await epochlog("import", "none.zip", environ=environ)).failed_with("cannot be read")
    assert (await epochlog("import", environ=environ)).code == 2
    url = {**environ, "EPOCHLOG_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
    url |= {"EPOCHLOG_SECRET_KEY": "x" * 32, "EPOCHLOG_PORT": "1"}
    refused = await epochlog("import", str(incident.bundles[FAILED_JOB]), environ=url)
    assert refused.failed_with("EPOCHLOG_DATABASE_URL needs to be unset")


async def test_a_bundle_that_the_database_refuses_leaves_the_log_empty(
    incident: Incident, elsewhere: ServiceProcess, tmp_path: Path
) -> None:
    """Its chain is right, but two of its events have the same id."""
    good = incident.bundles[FAILED_JOB]
    with ZipFile(good) as bundle:
        records = [record_in(line) for line in bundle.read("events.ndjson").splitlines()]
        records[-1] = replace(records[-1], event_id=records[0].event_id)
        lines, previous = [], GENESIS
        for record in records:
            previous = link(record, previous)
            lines.append(line_of(replace(record, hash=previous)))
        manifest = json.loads(_with_true_hashes(bundle, {"events.ndjson": b"".join(lines)}))
    manifest["head"]["hash"] = previous
    forged = {"events.ndjson": b"".join(lines), "manifest.json": json.dumps(manifest).encode()}
    bad = rewritten(good, tmp_path / "bad.zip", forged)

    refused = await epochlog("import", str(bad), environ=elsewhere.environ)
    after = await epochlog("import", str(good), environ=elsewhere.environ)

    assert refused.failed_with("what no log can hold")
    assert after.code == 0, after
    jobs = await epochlog("jobs", "--json", environ=elsewhere.environ)
    assert [job["id"] for job in jobs.json["jobs"]] == [FAILED_JOB]


async def test_export_on_the_command_line(
    incident: Incident, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = incident.service.environ
    monkeypatch.chdir(tmp_path)
    name = f"epochlog-job-{FAILED_JOB}.zip"

    made = await epochlog("export", str(FAILED_JOB), environ=environ)
    before = (tmp_path / name).read_bytes()
    refused = await epochlog("export", str(FAILED_JOB), environ=environ)
    assert (tmp_path / name).read_bytes() == before
    forced = await epochlog("export", str(FAILED_JOB), "--force", "--json", environ=environ)
    async with started("export", str(FAILED_JOB), "-o", "-", environ=environ) as process:
        out, err = await asyncio.wait_for(process.communicate(), 60)

    assert (made.code, made.err) == (0, "")
    assert f"{name}: job {FAILED_JOB} (succeeded)" in made.out
    assert refused.failed_with(f"{name} exists already; --force overwrites it")
    assert forced.json["file"] == name
    assert forced.json["bytes"] == (tmp_path / name).stat().st_size
    assert (process.returncode, err) == (0, b"")
    with ZipFile(BytesIO(out)) as bundle:
        assert bundle.testzip() is None
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208 - a look, not a walk


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("99",), 1, "There is no job 99."),
        ((str(FAILED_JOB), "-o", "."), 1, "is a folder"),
        ((str(FAILED_JOB), "-o", "none/x.zip"), 1, "cannot be written"),
    ],
)
async def test_an_export_that_cannot_be_says_why(
    incident: Incident, words: tuple[str, ...], code: int, sentence: str
) -> None:
    assert (await epochlog("export", *words, environ=incident.service.environ)).failed_with(
        sentence, code
    )


async def test_an_export_to_stdout_has_no_room_for_a_summary(incident: Incident) -> None:
    ran = await epochlog("export", "1", "-o", "-", "--json", environ=incident.service.environ)

    assert (ran.code, ran.out) == (2, "")


async def test_the_route_answers_a_viewer_with_a_named_zip(api: Api) -> None:
    job = await api.create_job(labels={"note": MARKUP})
    viewer = (await api.post("/v1/tokens", {"role": "viewer"})).json["token"]

    answer = await api.call("GET", f"/v1/jobs/{job['id']}/export", token=viewer)
    nobody = await api.call("GET", f"/v1/jobs/{job['id']}/export", token="")
    missing = await api.get("/v1/jobs/77/export")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="epochlog-job-1.zip"'
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    with ZipFile(BytesIO(answer.content)) as bundle:
        assert bundle.testzip() is None
        assert "logs/attempt-1.txt" not in bundle.namelist()  # with `external` there is no output
    assert (nobody.status, missing.status) == (401, 404)


async def test_a_job_that_goes_on_while_it_is_exported_is_exported_whole(api: Api) -> None:
    job = await api.create_job(epochs=100_000)

    async def beat(number: int) -> None:
        beats = [{"kind": "heartbeat", "epoch": number, "batch": each} for each in range(200)]
        assert (await api.call_back(job, "callbacks", {"callbacks": beats})).status == 200

    for number in range(5):
        await beat(number)
    beats = asyncio.gather(*(beat(number) for number in range(5, 15)))
    answers = [await api.get(f"/v1/jobs/{job['id']}/export") for _ in range(3)]
    await beats

    for answer in answers:
        with ZipFile(BytesIO(answer.content)) as bundle:
            manifest = json.loads(bundle.read("manifest.json"))
            lines = bundle.read("events.ndjson").splitlines()
            told = json.loads(bundle.read("job.json"))
        assert len(lines) == manifest["head"]["version"] == told["version"] > 1000
        chain = Chain()
        for line in lines:
            chain.follow(line)
        assert chain.hash == manifest["head"]["hash"]


async def test_a_compacted_job_is_exported_and_imported_too(
    start_service: StartService, elsewhere: ServiceProcess
) -> None:
    api = await start_service(EPOCHLOG_PARTITION_EVENTS=str(EVENTS_A_RANGE))
    job, _other = await trained(api), await trained(api)
    path = f"/v1/jobs/{job['id']}"
    before = {view: (await api.get(path + view)).json for view in JSON_FILES.values()}
    await compacted(api)
    bundle = elsewhere.folder / "bundle.zip"
    bundle.write_bytes((await api.get(f"{path}/export")).content)
    with ZipFile(bundle) as file:
        assert b'"type":"heartbeats"' in file.read("events.ndjson")

    imported = await epochlog("import", str(bundle), environ=elsewhere.environ)
    elsewhere.start()
    for view, answer in before.items():
        assert elsewhere.call("GET", path + view) == answer
    verified = await epochlog("verify", environ=elsewhere.environ)
    replayed = await epochlog("replay", "--check", environ=elsewhere.environ)

    assert imported.code == 0, imported
    assert verified.code == 0, verified
    assert replayed.code == 0, replayed
