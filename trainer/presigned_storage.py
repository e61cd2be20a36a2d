"""A bucket through addresses that the service signs: no key of the store is on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import requests

from trainer.answers import Delivered
from trainer.bearer import Bearer
from trainer.errors import ObjectMissingError, StorageDeniedError
from trainer.s3_uri import key_in, uri_of
from trainer.storage import CHUNK, Stored
from trainer.transfer import (
    Opened,
    Pace,
    PassingError,
    digest_of,
    download,
    offset_in,
    persistently,
)

TIMEOUT = (5, 30)
AT_ONCE = 4
PASSING = frozenset({408, 425, 429})

Json = Mapping[str, Any]


class PresignedStorage:
    """Objects of one bucket, each by an address of its own that soon expires."""

    def __init__(self, bucket: str, job_url: str, bearer: Bearer) -> None:
        """Take the bucket's name, and who signs for whom."""
        self._bucket = bucket
        self._url = f"{job_url}/storage"
        self._bearer = bearer

    def fetch(self, key: str, target: Path, *, sha256: str | None = None) -> Stored:
        """Copy an object to a file, going on where the line broke."""
        uri = uri_of(self._bucket, key)

        @contextmanager
        def open_at(start: int, etag: str | None) -> Iterator[Opened]:
            signed = self._sign("get", {"key": key})
            with _answered(uri, "read"), self._get(signed, start, etag) as answer:
                yield _opened(answer, uri)

        digest, size = download(uri, open_at, target, sha256)
        return Stored(uri, digest, size)

    def fetch_uri(self, uri: str, target: Path, *, sha256: str | None = None) -> Stored:
        """Copy what an s3:// URI of this bucket names."""
        return self.fetch(key_in(uri, self._bucket), target, sha256=sha256)

    def store(self, source: Path, key: str) -> Stored:
        """Send a file, in the parts that the service wants; readers never see half of one."""
        uri = uri_of(self._bucket, key)
        digest, size = digest_of(source)
        wanted = {"key": key, "bytes": size, "sha256": digest}
        persistently(uri, lambda: self._send(source, uri, wanted))
        return Stored(uri, digest, size)

    def _send(self, source: Path, uri: str, wanted: Json) -> None:
        signed, pace = self._sign("put", wanted), Pace(uri, wanted["bytes"])
        if "parts" in signed:
            self._send_parts(source, uri, {"key": wanted["key"]}, signed, pace)
            return
        with source.open("rb") as reader:
            body = _Window(reader, 0, wanted["bytes"], pace)
            _put(uri, signed["url"], body, signed.get("headers", {}))

    def _send_parts(self, source: Path, uri: str, named: Json, signed: Json, pace: Pace) -> None:
        length, size = int(signed["part_bytes"]), source.stat().st_size

        def send(part: Json) -> dict[str, Any]:
            number = int(part["number"])
            start = (number - 1) * length

            def once() -> str:
                with source.open("rb") as reader:
                    body = _Window(reader, start, min(length, size - start), pace)
                    return _put(uri, part["url"], body, {})

            return {"number": number, "etag": persistently(f"part {number} of {uri}", once)}

        upload = {**named, "upload_id": signed["upload_id"]}
        try:
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="parts") as pool:
                parts = list(pool.map(send, signed["parts"]))
            self._sign("complete", {**upload, "parts": parts})
        except BaseException:
            self._abort(upload)
            raise

    def _abort(self, upload: Json) -> None:
        """Leave no parts behind, if that can be had; the store's own rules do it otherwise."""
        try:
            self._sign("abort", upload)
        except Exception:
            return

    def _sign(self, call: str, body: Json) -> Json:
        """Ask the service, with a token that is renewed where it has expired."""
        what = body["key"]
        for _ in range(2):
            used = self._bearer.token
            try:
                answer = requests.post(
                    f"{self._url}/{call}",
                    json=body,
                    auth=self._bearer,
                    timeout=TIMEOUT,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                raise PassingError(f"the service: {type(error).__name__}") from error
            if answer.status_code != 401 or not isinstance(self._bearer.renew(used), Delivered):
                break
        return _read(answer, what)

    def _get(self, signed: Json, start: int, etag: str | None) -> requests.Response:
        headers = dict(signed.get("headers", {}))
        if start and etag:
            headers |= {"Range": f"bytes={start}-", "If-Range": etag}
        # What is stored is what is hashed: nobody may unpack it on the way.
        headers["Accept-Encoding"] = "identity"
        return requests.get(signed["url"], headers=headers, stream=True, timeout=TIMEOUT)


class _Window:
    """A part of a file, as a body to send."""

    def __init__(self, reader: BinaryIO, start: int, length: int, pace: Pace) -> None:
        reader.seek(start)
        self._reader, self._left, self._pace = reader, length, pace
        self._length = length

    def __len__(self) -> int:
        return self._length

    def read(self, most: int = -1) -> bytes:
        """Return the next bytes."""
        piece = self._reader.read(self._left if most < 0 else min(most, self._left))
        self._left -= len(piece)
        self._pace.add(len(piece))
        return piece


def _opened(answer: requests.Response, uri: str) -> Opened:
    _refuse(answer, uri, "read")
    start = offset_in(answer.headers.get("Content-Range"))
    length = answer.headers.get("Content-Length")
    return Opened(
        pieces=answer.iter_content(CHUNK),
        start=start,
        total=None if length is None else start + int(length),
        etag=answer.headers.get("ETag"),
    )


def _put(uri: str, url: str, body: _Window, headers: Json) -> str:
    """Send it; return the ETag of what arrived."""
    with _answered(uri, "written"):
        answer = requests.put(url, data=body, headers=dict(headers), timeout=TIMEOUT)
        _refuse(answer, uri, "written")
    return answer.headers.get("ETag", "")


@contextmanager
def _answered(uri: str, done: str) -> Iterator[None]:
    try:
        yield
    except requests.RequestException as error:
        # Without its words: they hold the signed address, which is a key for a while.
        raise PassingError(f"{uri} was not {done}: {type(error).__name__}") from None


def _refuse(answer: requests.Response, uri: str, done: str) -> None:
    """Raise what the store's answer means, unless it is a good one."""
    if answer.ok:
        return
    if answer.status_code == 404:
        raise ObjectMissingError(f"There is no {uri} in the storage.")
    if answer.status_code >= 500 or answer.status_code in PASSING:
        raise PassingError(f"HTTP {answer.status_code}")
    raise StorageDeniedError(
        f"The storage refuses: {uri} cannot be {done}: HTTP {answer.status_code} for an address"
        " that the service signed; its keys, its clock and the bucket are to be checked."
    )


def _read(answer: requests.Response, key: str) -> Json:
    """Return what the service says of an object, or raise what it means."""
    status = answer.status_code
    if status >= 500 or status in PASSING:
        raise PassingError(f"the service: HTTP {status}")
    try:
        content = answer.json()
    except requests.JSONDecodeError:
        content = None
    if not isinstance(content, Mapping):
        raise PassingError("the service: an answer that is not its JSON")
    if not answer.ok:
        raise StorageDeniedError(
            f"The service does not sign for {key}: {content.get('detail') or status}."
        )
    return content
