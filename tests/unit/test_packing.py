"""A bundle is made of a job's records alone; its page can be steered by nothing that they say."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode
from io import BytesIO
from zipfile import ZipFile

import pytest

from projections.events import Evidence, Heartbeat, Source
from projections.policy import Moment
from service import packing
from service.bundle import Manifest
from service.packing import Packing
from service.redaction import MARK
from tests.given import POLICY, Given, a_running_job, at

MARKUP = "</script><img src=x onerror=alert(1)>"
LOG_ID = "0199a6f0-1111-7222-8333-444455556666"


def _packed(job: Given, logs: dict[int, str] | None = None) -> ZipFile:
    with Packing(POLICY) as making:
        making.add(job.records)
        for attempt, text in (logs or {}).items():
            making.add_log(attempt, text)
        moment = Moment(now=at(job.now + 10))
        with making.finish(log_id=LOG_ID, exported_at=moment.now, moment=moment) as file:
            return ZipFile(BytesIO(file.read()))


def _blocks(page: str) -> dict[str, str]:
    found = re.findall(
        r'<script type="application/gzip;base64" id="data-(\w+)">(.*?)</script>', page
    )
    return {name: gzip.decompress(b64decode(data)).decode() for name, data in found}


def test_the_page_holds_the_events_and_none_of_their_letters_as_markup() -> None:
    job = a_running_job()
    job.holds(Evidence(kind=MARKUP, data={"lines": [MARKUP]}), source=Source.WATCHER)
    job.hears(Heartbeat(extra={MARKUP: MARKUP}), at=1).cancel(MARKUP, at=2)
    bundle = _packed(job, {1: MARKUP})

    page = bundle.read("index.html").decode()
    blocks = _blocks(page)

    assert MARKUP not in page
    assert "onerror" not in page
    assert page.count("<script") == page.count("</script>") == len(blocks) + 1 == 4
    assert blocks["events"] == bundle.read("events.ndjson").decode()
    assert json.loads(blocks["about"])["logs"] == {"1": MARKUP}
    assert len(blocks["steps"].splitlines()) == len(job.records)
    assert [name for name in bundle.namelist() if name.startswith("evidence/")] == [
        "evidence/000005--script-img-src-x-onerror-alert-1-.json"
    ]


def test_the_manifest_tells_of_secrets_and_where_it_all_ends() -> None:
    job = a_running_job().hears(Heartbeat(extra={"api_key": "0123456789abcdef"}), at=1)
    job.hears(Heartbeat(), at=2)
    bundle = _packed(job, {1: "API_TOKEN=0123456789", 2: "nothing"})

    manifest = Manifest.model_validate_json(bundle.read("manifest.json"))

    assert manifest.possible_secrets == [job.records[-2].position]
    assert manifest.redacted == {"logs/attempt-1.txt": 1}
    assert bundle.read("logs/attempt-1.txt").decode() == f"API_TOKEN={MARK}"
    last = job.records[-1]
    assert (manifest.head.version, manifest.head.position, manifest.head.hash) == (
        last.version,
        last.position,
        last.hash,
    )
    assert set(manifest.files) == set(bundle.namelist()) - {"manifest.json"}


def test_the_page_of_a_huge_job_leaves_heartbeats_out_and_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packing, "SHOWN_EVENTS", 6)
    job = a_running_job()
    for second in range(1, 11):
        job.hears(Heartbeat(epoch=second), at=second)
    bundle = _packed(job.done(at=12))

    blocks = _blocks(bundle.read("index.html").decode())
    shown = [json.loads(line) for line in blocks["events"].splitlines()]

    assert len(bundle.read("events.ndjson").splitlines()) == len(job.records)
    assert json.loads(blocks["about"])["skipped"] == len(job.records) - len(shown) > 0
    assert [event["type"] for event in shown[6:]] == ["done", "succeeded"]
    assert len(blocks["steps"].splitlines()) == len(job.records)


def test_what_was_begun_and_not_finished_is_let_go_of() -> None:
    with pytest.raises(AssertionError), Packing(POLICY) as making:
        making.finish(log_id=LOG_ID, exported_at=at(0), moment=Moment(now=at(0)))

    assert all(file.closed for file in (making._bundle, making._events, making._steps))
