"""Answers of a store, and of the service that signs for it, that a trainer must not misread."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from urllib3.exceptions import SSLError

from tests.cutting_proxy import CuttingProxy
from tests.storages import BUCKET, KEYS, MEBIBYTE, by_addresses, by_keys, content, key, write
from trainer import presigned_storage
from trainer.bearer import Bearer
from trainer.errors import StorageDeniedError
from trainer.presigned_storage import PresignedStorage
from trainer.s3_storage import S3Storage

pytestmark = pytest.mark.usefixtures("short_pauses")

DATA = b"whole data"
HALF = 5


class Answering(BaseHTTPRequestHandler):
    """A store that cuts each first answer, and a service that signs and renews when it likes."""

    cuts: ClassVar[int] = 0
    completing: ClassVar[float] = 0.0
    """For how many seconds it makes one object of the parts."""
    renewals: ClassVar[list[tuple[int, dict[str, Any]]]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", '"an etag"')
        if wanted:  # the length of the whole may be left out (RFC 9110, 14.4)
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/*")
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        if type(self).cuts:
            type(self).cuts -= 1
            self.wfile.write(DATA[start:HALF])
            self.close_connection = True
        else:
            self.wfile.write(DATA[start:])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append(self.path)
        if self.path.endswith("/token/renew"):
            self._tell(*self.renewals.pop(0))
        elif self.headers["Authorization"] == "Bearer old":
            self._tell(401, {"code": "token_expired", "detail": "The token has expired."})
        elif self.path.endswith("/storage/put"):
            parts = [{"number": 1, "url": f"http://{self.headers['Host']}/part"}]
            self._tell(200, {"upload_id": "an upload", "part_bytes": len(DATA), "parts": parts})
        else:
            if self.path.endswith("/storage/complete"):
                threading.Event().wait(self.completing)
            self._tell(200, {"url": f"http://{self.headers['Host']}/object", "headers": {}})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("ETag", '"an etag"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _tell(self, status: int, body: dict[str, Any]) -> None:
        said = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Answering.cuts, Answering.renewals, Answering.asked = 0, [], []
    Answering.completing = 0.0
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def signed_by(url: str, token: str) -> PresignedStorage:
    return PresignedStorage(BUCKET, url, Bearer(url, token, lambda _newer: None))


@pytest.mark.parametrize("by", ["keys", "addresses"])
def test_the_rest_of_an_object_whose_length_is_not_told_is_its_rest(
    url: str, tmp_path: Path, by: str
) -> None:
    Answering.cuts = 1
    storage = (
        signed_by(url, "new")
        if by == "addresses"
        else S3Storage(bucket=BUCKET, endpoint=url, keys=KEYS)
    )

    storage.fetch("a.zip", tmp_path / "a.zip")

    assert (tmp_path / "a.zip").read_bytes() == DATA


def test_a_token_that_cannot_be_renewed_now_is_renewed_later(url: str, tmp_path: Path) -> None:
    Answering.renewals = [
        (503, {"code": "store_unavailable"}),
        (200, {"callback_token": "new", "attempt": 1}),
    ]

    signed_by(url, "old").fetch("a.zip", tmp_path / "a.zip")

    assert (tmp_path / "a.zip").read_bytes() == DATA
    assert [path.rpartition("/")[2] for path in Answering.asked] == [
        *("get", "renew"),
        *("get", "renew", "get"),
    ]


def test_a_store_that_takes_its_time_to_join_the_parts_is_waited_for(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presigned_storage, "TIMEOUT", (5, 1))
    Answering.completing = 2.5

    signed_by(url, "new").store(write(tmp_path / "a.pt", DATA), "a.pt")

    assert [path.rpartition("/")[2] for path in Answering.asked] == ["put", "complete"]


def test_a_token_that_is_refused_is_a_refusal(url: str, tmp_path: Path) -> None:
    Answering.renewals = [(401, {"code": "token_invalid", "detail": "It is not one of ours."})]

    with pytest.raises(StorageDeniedError, match=r"does not sign for a\.zip: "):
        signed_by(url, "old").fetch("a.zip", tmp_path / "a.zip")


def test_a_login_that_lies_on_the_machine_is_not_sent_to_a_signed_address(
    service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "netrc", b"default login somebody password secret\n").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    storage, data = by_addresses(service), content(MEBIBYTE)

    storage.store(write(tmp_path / "a.pt", data), key("netrc.pt"))
    storage.fetch(key("netrc.pt"), tmp_path / "b.pt")

    assert (tmp_path / "b.pt").read_bytes() == data


def test_a_line_whose_encryption_breaks_goes_on(
    line: CuttingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, data = by_keys(line), content(3 * MEBIBYTE)
    storage.store(write(tmp_path / "a.pt", data), key("tls.pt"))
    real = storage._reading.get_object
    broken: list[bool] = []

    def get_object(**asked: Any) -> Any:
        answer = real(**asked)
        if not broken:
            pieces = answer["Body"].iter_chunks

            def iter_chunks(size: int) -> Iterator[bytes]:
                yield next(pieces(size))
                broken.append(True)
                raise SSLError("decryption failed or bad record mac")

            answer["Body"].iter_chunks = iter_chunks
        return answer

    monkeypatch.setattr(storage._reading, "get_object", get_object)

    storage.fetch(key("tls.pt"), tmp_path / "b.pt")

    assert broken
    assert (tmp_path / "b.pt").read_bytes() == data
