"""What a bucket, its line and its clocks do to the trainer's storage at their worst."""

from __future__ import annotations

import datetime as dt
import io
import threading
import traceback
import tracemalloc
import types
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import boto3
import botocore.auth
import pytest
import requests
from botocore.config import Config

from tests.cutting_proxy import CuttingProxy
from tests.processes import ServiceProcess
from tests.s3 import KEY, SECRET
from tests.storages import BUCKET, KEYS, MEBIBYTE, by_addresses, by_keys, content, key, write
from trainer import presigned_storage
from trainer.answers import Answer, Delivered, TryAgain
from trainer.bearer import Bearer
from trainer.errors import (
    ObjectDamagedError,
    StorageDeniedError,
    StorageUnreachableError,
)
from trainer.presigned_storage import PresignedStorage
from trainer.s3_storage import S3Storage
from trainer.storage import Storage
from trainer.transfer import Pace, PassingError

pytestmark = pytest.mark.usefixtures("short_pauses")

PART = 5 * MEBIBYTE


@pytest.fixture(params=["keys", "presigned"])
def remote(request: pytest.FixtureRequest) -> Storage:
    if request.param == "keys":
        return by_keys(request.getfixturevalue("line"))
    return by_addresses(request.getfixturevalue("service"))


def shift_clock(monkeypatch: pytest.MonkeyPatch, **shift: float) -> None:
    """Let signatures be made as if this machine's clock were wrong by so much."""

    class Shifted(dt.datetime):
        @classmethod
        def utcnow(cls) -> Any:
            now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
            return now + dt.timedelta(**shift)

    monkeypatch.setattr(botocore.auth, "datetime", types.SimpleNamespace(datetime=Shifted))


@pytest.mark.parametrize("hours", [-1, 1], ids=["slow", "fast"])
def test_a_clock_that_is_wrong_is_named(
    line: CuttingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: float
) -> None:
    storage = by_keys(line)
    source = write(tmp_path / "a.pt", b"data")
    storage.store(source, key("clock.pt"))

    shift_clock(monkeypatch, hours=hours)

    with pytest.raises(StorageDeniedError, match=r"cannot be read.*clock is wrong"):
        storage.fetch(key("clock.pt"), tmp_path / "b.pt")
    with pytest.raises(StorageDeniedError, match=r"cannot be written.*clock is wrong"):
        storage.store(source, key("clock.pt"))
    assert not (tmp_path / "b.pt").exists()


def expired(line: CuttingProxy, operation: str, **about: Any) -> str:
    """Return an address that was good until an hour ago."""
    client = boto3.client(
        "s3",
        endpoint_url=line.url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    with pytest.MonkeyPatch.context() as patch:
        shift_clock(patch, hours=-2)
        url = client.generate_presigned_url(
            operation, Params={"Bucket": BUCKET, **about}, ExpiresIn=3600
        )
    return str(url)


class Stale(PresignedStorage):
    """Gets the first addresses so late that they have expired."""

    def __init__(self, line: CuttingProxy, service: Any, stale: int) -> None:
        super().__init__(BUCKET, service.url, Bearer(service.url, service.token, lambda _: None))
        self._line = line
        self._stale = stale
        self.asked: list[str] = []

    def _sign(self, call: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        signed = dict(super()._sign(call, body))
        self.asked.append(call)
        if call not in {"get", "put"} or self._stale == 0:
            return signed
        self._stale -= 1
        about: dict[str, Any] = {"Key": body["key"]}
        if "parts" in signed:
            about |= {"UploadId": signed["upload_id"]}
            late = {"PartNumber": signed["parts"][0]["number"]}
            url = expired(self._line, "upload_part", **about, **late)
            signed["parts"] = [{"number": 1, "url": url}, *signed["parts"][1:]]
            return signed
        if call == "put":
            about["Metadata"] = {"sha256": body["sha256"]}
        return {**signed, "url": expired(self._line, f"{call}_object", **about)}


def test_an_address_that_expired_before_it_was_used_is_asked_for_again(
    service: Any, line: CuttingProxy, tmp_path: Path
) -> None:
    data = content(MEBIBYTE)

    Stale(line, service, 1).store(write(tmp_path / "a.pt", data), key("stale.pt"))
    reader = Stale(line, service, 1)
    reader.fetch(key("stale.pt"), tmp_path / "b.pt")

    assert (tmp_path / "b.pt").read_bytes() == data
    assert reader.asked == ["get", "get"]


def test_a_parts_address_that_expired_is_asked_for_again_and_the_upload_goes_on(
    service: Any, line: CuttingProxy, buckets: Path, tmp_path: Path
) -> None:
    data = content(70 * MEBIBYTE)
    storage = Stale(line, service, 1)

    storage.store(write(tmp_path / "a.pt", data), key("stale-parts.pt"))

    assert storage.asked == ["put", "put", "complete"], "the same upload, which nobody gave up"
    assert (buckets / BUCKET / key("stale-parts.pt")).read_bytes() == data


def test_addresses_that_are_refused_however_fresh_are_denied_without_being_shown(
    service: Any, line: CuttingProxy, tmp_path: Path
) -> None:
    with pytest.raises(StorageDeniedError, match="clock") as refused:
        Stale(line, service, 99).fetch(key("stale.pt"), tmp_path / "b.pt")
    with pytest.raises(StorageDeniedError, match="clock"):
        Stale(line, service, 99).store(write(tmp_path / "a.pt", b"x"), key("stale.pt"))
    assert "Signature" not in str(refused.value)


def test_a_write_whose_answer_is_lost_is_repeated(
    service: Any, line: CuttingProxy, buckets: Path, tmp_path: Path
) -> None:
    source = write(tmp_path / "a.pt", content(MEBIBYTE))
    line.cuts = [1]

    stored = by_addresses(service).store(source, key("lost.pt"))

    assert line.cuts == []
    assert (buckets / BUCKET / key("lost.pt")).read_bytes() == source.read_bytes()
    assert by_addresses(service).fetch(key("lost.pt"), tmp_path / "b.pt") == stored


def test_a_large_write_whose_last_answer_is_lost_is_repeated(
    service: Any, buckets: Path, line: CuttingProxy, tmp_path: Path
) -> None:
    data = content(70 * MEBIBYTE)

    class Deaf(Stale):
        def _sign(self, call: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
            answer = super()._sign(call, body)
            if self.asked == ["put", "complete"]:
                raise PassingError("the service: ReadTimeout")
            return answer

    storage = Deaf(line, service, 0)
    storage.store(write(tmp_path / "a.pt", data), key("deaf.pt"))

    assert storage.asked[-2:] == ["put", "complete"]
    assert len(storage.asked) > 3
    assert (buckets / BUCKET / key("deaf.pt")).read_bytes() == data


def test_a_part_whose_line_is_cut_is_sent_again_and_the_others_are_not(
    line: CuttingProxy, buckets: Path, tmp_path: Path
) -> None:
    data = content(6 * PART)
    storage = by_keys(line, part=PART)
    begun: list[str] = []
    storage._writing_parts.meta.events.register(
        "before-call.s3.CreateMultipartUpload", lambda **_: begun.append("begun")
    )
    line.ups = [3 * MEBIBYTE, 4 * MEBIBYTE]

    storage.store(write(tmp_path / "a.pt", data), key("cut-parts.pt"))

    assert line.ups == []
    assert begun == ["begun"]
    assert (buckets / BUCKET / key("cut-parts.pt")).read_bytes() == data


def test_a_part_on_its_way_to_an_address_is_sent_again_and_the_others_are_not(
    service: Any,
    line: CuttingProxy,
    buckets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = content(70 * MEBIBYTE)
    storage = Stale(line, service, 0)
    paces: list[Pace] = []

    class Watched(Pace):
        def __init__(self, what: str, total: int | None) -> None:
            super().__init__(what, total)
            paces.append(self)

    monkeypatch.setattr(presigned_storage, "Pace", Watched)
    line.ups = [3 * MEBIBYTE, 4 * MEBIBYTE]

    storage.store(write(tmp_path / "a.pt", data), key("cut-parts.pt"))

    assert line.ups == []
    assert [pace._done for pace in paces] == [len(data)], "what was sent again counts once"
    assert storage.asked == ["put", "complete"]
    assert (buckets / BUCKET / key("cut-parts.pt")).read_bytes() == data


def test_a_large_object_is_never_held_in_memory(line: CuttingProxy, tmp_path: Path) -> None:
    storage = by_keys(line, part=PART)
    source = write(tmp_path / "a.pt", content(8 * PART))
    tracemalloc.start()
    try:
        storage.store(source, key("memory.pt"))
        storage.fetch(key("memory.pt"), tmp_path / "b.pt")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 3 * PART


def test_an_object_that_was_written_over_is_damaged_for_who_knows_its_hash(
    remote: Storage, tmp_path: Path
) -> None:
    named = remote.store(write(tmp_path / "a.pt", content(MEBIBYTE)), key("over.pt"))
    remote.store(write(tmp_path / "other.pt", content(MEBIBYTE)), key("over.pt"))

    with pytest.raises(ObjectDamagedError, match="SHA-256"):
        remote.fetch_uri(named.uri, tmp_path / "b.pt", sha256=named.sha256)
    assert not (tmp_path / "b.pt").exists()


class Unwilling(BaseHTTPRequestHandler):
    """A store that refuses the first requests: what rclone never does of itself."""

    answers: ClassVar[list[tuple[int, str]]] = []

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def _answer(self) -> None:
        status, code = self.answers.pop(0) if self.answers else (200, "")
        body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
        self.send_response(status)
        self.send_header("ETag", '"an etag"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def unwilling() -> Iterator[S3Storage]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Unwilling) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield S3Storage(bucket=BUCKET, endpoint=f"http://127.0.0.1:{server.server_port}", keys=KEYS)
        server.shutdown()


def test_a_store_that_has_no_time_is_asked_again(unwilling: S3Storage, tmp_path: Path) -> None:
    Unwilling.answers = [(503, "SlowDown"), (500, "InternalError")]

    stored = unwilling.store(write(tmp_path / "a.pt", b"data"), key("busy.pt"))

    assert (stored.bytes, Unwilling.answers) == (4, [])


def test_a_key_that_may_only_read_or_only_write_says_so(
    unwilling: S3Storage, tmp_path: Path
) -> None:
    Unwilling.answers = [(403, "AccessDenied"), (403, "AccessDenied")]

    with pytest.raises(StorageDeniedError, match=r"cannot be written.*permissions"):
        unwilling.store(write(tmp_path / "a.pt", b"data"), key("a.pt"))
    with pytest.raises(StorageDeniedError, match=r"cannot be read.*permissions"):
        unwilling.fetch(key("a.pt"), tmp_path / "b.pt")
    assert Unwilling.answers == []


def signing_service(bucket: str, endpoint: str, **keys: str) -> ServiceProcess:
    return ServiceProcess(
        EPOCHLOG_EXECUTOR="external",
        EPOCHLOG_STORAGE_TYPE="s3",
        EPOCHLOG_STORAGE_ACCESS="presigned",
        EPOCHLOG_BUCKET=bucket,
        EPOCHLOG_S3_ENDPOINT=endpoint,
        **{"R2_ACCESS_KEY_ID": KEY, "R2_SECRET_ACCESS_KEY": SECRET, **keys},
    )


def storage_of(process: ServiceProcess, bucket: str = BUCKET) -> PresignedStorage:
    asked = {"dataset_id": "shapes", "model_name": "m", "epochs": 1}
    job = process.call("POST", "/v1/jobs", asked)
    url = f"{process.url}/v1/jobs/{job['id']}"
    return PresignedStorage(bucket, url, Bearer(url, job["callback_token"], lambda _: None))


def test_a_bucket_that_is_not_there_is_said_of_addresses_too(
    line: CuttingProxy, tmp_path: Path
) -> None:
    with signing_service("no-such-bucket", line.url) as process:
        process.start()
        storage = storage_of(process, "no-such-bucket")

        with pytest.raises(StorageDeniedError, match="no such bucket"):
            storage.fetch("datasets/shapes.zip", tmp_path / "a.zip")
        with pytest.raises(StorageDeniedError, match="no such bucket"):
            storage.store(write(tmp_path / "a.pt", b"x"), key("a.pt"))
        with pytest.raises(StorageDeniedError, match="NoSuchBucket"):
            storage.store(write(tmp_path / "a.pt", bytes(65 * MEBIBYTE)), key("a.pt"))


def test_a_store_that_is_away_is_unreachable_by_addresses(tmp_path: Path) -> None:
    with signing_service(BUCKET, "http://127.0.0.1:9") as process:
        process.start()
        storage = storage_of(process)

        with pytest.raises(StorageUnreachableError, match=r"shapes\.zip") as small:
            storage.fetch("datasets/shapes.zip", tmp_path / "a.zip")
        with pytest.raises(StorageUnreachableError, match=r"a\.pt"):
            storage.store(write(tmp_path / "a.pt", b"x"), key("a.pt"))
        assert "X-Amz" not in "".join(traceback.format_exception(small.value))


def test_who_trains_for_a_job_that_is_over_leaves_its_results_alone(
    service: Any, tmp_path: Path
) -> None:
    source = write(tmp_path / "a.pt", b"data")
    asked = {"dataset_id": "shapes", "model_name": "m", "epochs": 1}
    job = service.process.call("POST", "/v1/jobs", asked)
    url = f"{service.process.url}/v1/jobs/{job['id']}"
    storage = PresignedStorage(BUCKET, url, Bearer(url, job["callback_token"], lambda _: None))
    storage.store(source, f"checkpoints/job-{job['id']}/best.pt")
    done = {"status": "failed", "error": {"code": "params_invalid", "retryable": False}}
    headers = {"Authorization": f"Bearer {job['callback_token']}"}
    answer = requests.post(f"{url}/done", json=done, headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")

    with pytest.raises(StorageDeniedError, match="may not write"):
        storage.store(source, f"checkpoints/job-{job['id']}/best.pt")
    storage.store(source, f"checkpoints/job-{job['id']}/attempt-1/last.pt")


def test_a_token_whose_renewal_fails_in_passing_is_renewed_later(
    service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = by_addresses(service, token="expired")
    troubles = [TryAgain(why="HTTP 503")]

    def renew(bearer: Bearer, _used: str) -> Answer:
        if troubles:
            return troubles.pop()
        bearer.take(service.token)
        return Delivered(directive="continue", token=service.token)

    monkeypatch.setattr(Bearer, "renew", renew)

    assert storage.store(write(tmp_path / "a.pt", b"data"), key("renewed.pt")).bytes == 4


@pytest.mark.parametrize("status", [404, 405, 410])
def test_only_the_service_itself_refuses_to_sign(status: int) -> None:
    page, refusal = requests.Response(), requests.Response()
    page.status_code = refusal.status_code = status
    page.raw, refusal.raw = io.BytesIO(b'{"message": "no route"}'), io.BytesIO(b'{"code": "x"}')

    with pytest.raises(PassingError, match="not the service"):
        presigned_storage._read(page, "a.pt")
    with pytest.raises(StorageDeniedError):
        presigned_storage._read(refusal, "a.pt")


def test_the_service_signs_reading_with_one_key_and_writing_with_another(
    line: CuttingProxy, tmp_path: Path
) -> None:
    source = write(tmp_path / "a.pt", b"data")
    wrong = {"R2_WRITE_ACCESS_KEY_ID": KEY, "R2_WRITE_SECRET_ACCESS_KEY": "another-secret"}
    with signing_service(BUCKET, line.url, **wrong) as process:
        process.start()
        storage = storage_of(process)
        by_keys(line).store(source, key("read.pt"))

        assert storage.fetch(key("read.pt"), tmp_path / "b.pt").bytes == 4
        with pytest.raises(StorageDeniedError, match=r"written.*SignatureDoesNotMatch"):
            storage.store(source, key("read.pt"))
        with pytest.raises(StorageDeniedError, match=r"sign for.*SignatureDoesNotMatch"):
            storage.store(write(tmp_path / "large.pt", bytes(65 * MEBIBYTE)), key("large.pt"))
