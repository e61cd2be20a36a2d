"""A bucket through addresses that the service signs: no key of the store is on this machine."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import requests

from trainer.answers import ELSEWHERE, Delivered, TryAgain
from trainer.bearer import Bearer
from trainer.errors import ObjectMissingError, StorageDeniedError
from trainer.s3_uri import key_in, uri_of
from trainer.steps import Step, uncounted
from trainer.storage import CHUNK, Owner, Stored
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
COMPLETE_TIMEOUT = (5, 300)
"""Seconds for a store to make one object of its parts: for large ones, S3 takes minutes."""
AT_ONCE = 4
PASSING = frozenset({408, 425, 429})
# What stores answer to an address that has expired, and to one that was never good.
REFUSED = frozenset({400, 401, 403})
ERROR_CODE = re.compile(rb"<Code>(\w+)</Code>")
LONGEST_ERROR = 4096

Json = Mapping[str, Any]
Result = TypeVar("Result")


class PresignedStorage:
    """Objects of one bucket, each by an address of its own that soon expires."""

    def __init__(self, bucket: str, job_url: str, bearer: Bearer, step: Step = uncounted) -> None:
        """Take the bucket's name, who signs for whom, and whom to tell as fetching gets on."""
        self._bucket = bucket
        self._step = step
        self._url = f"{job_url}/storage"
        self._bearer = bearer

    def fetch(self, key: str, target: Path, *, sha256: str | None = None) -> Stored:
        """Copy an object to a file, going on where the line broke."""
        uri = uri_of(self._bucket, key)

        @contextmanager
        def open_at(start: int, etag: str | None) -> Iterator[Opened]:
            with _answered(uri, "read"), self._get(uri, key, start, etag) as answer:
                yield _opened(answer)

        digest, size = download(uri, open_at, target, sha256, self._step)
        return Stored(uri, digest, size)

    def fetch_uri(self, uri: str, target: Path, *, sha256: str | None = None) -> Stored:
        """Copy what an s3:// URI of this bucket names."""
        return self.fetch(key_in(uri, self._bucket), target, sha256=sha256)

    def store(self, source: Path, key: str, *, owner: Owner | None = None) -> Stored:  # noqa: ARG002
        """Send a file, in the parts that the service wants; readers never see half of one.

        Whose turn it is, the service knows: it signs for nobody else.
        """
        uri = uri_of(self._bucket, key)
        digest, size = digest_of(source)
        wanted = {"key": key, "bytes": size, "sha256": digest}
        persistently(uri, lambda: _freshly(lambda: self._send(source, uri, wanted)))
        return Stored(uri, digest, size)

    def _send(self, source: Path, uri: str, wanted: Json) -> None:
        signed, pace = self._sign("put", wanted), Pace(uri, wanted["bytes"])
        if "parts" in signed:
            self._send_parts(source, uri, wanted, signed, pace)
            return
        with source.open("rb") as reader:
            body = _Window(reader, 0, wanted["bytes"], pace)
            _put(uri, signed["url"], body, signed.get("headers", {}))

    def _send_parts(self, source: Path, uri: str, wanted: Json, signed: Json, pace: Pace) -> None:
        length, size = int(signed["part_bytes"]), wanted["bytes"]
        upload = {"key": wanted["key"], "upload_id": signed["upload_id"]}
        addresses = _Addresses(signed, lambda: self._sign("put", {**wanted, **upload}))

        def send(number: int) -> dict[str, Any]:
            start = (number - 1) * length

            def once() -> str:
                with source.open("rb") as reader, addresses.of(number) as url:
                    body = _Window(reader, start, min(length, size - start), pace)
                    return _put(uri, url, body, {})

            etag = persistently(f"part {number} of {uri}", lambda: _freshly(once))
            return {"number": number, "etag": etag}

        try:
            with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="parts") as pool:
                parts = list(pool.map(send, addresses.numbers))
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
                    timeout=COMPLETE_TIMEOUT if call == "complete" else TIMEOUT,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                raise PassingError(f"the service: {type(error).__name__}") from error
            if answer.status_code != 401:
                break
            renewed = self._bearer.renew(used)
            if isinstance(renewed, TryAgain):
                raise PassingError(f"the service: {renewed.why}")
            if not isinstance(renewed, Delivered):
                break
        return _read(answer, what)

    def _get(self, uri: str, key: str, start: int, etag: str | None) -> requests.Response:
        # What is stored is what is hashed: nobody may unpack it on the way.
        wanted = {"Accept-Encoding": "identity"}
        if start and etag:
            wanted |= {"Range": f"bytes={start}-", "If-Range": etag}

        def once() -> requests.Response:
            signed = self._sign("get", {"key": key})
            headers = {**signed.get("headers", {}), **wanted}
            answer = requests.get(
                signed["url"], headers=headers, auth=_as_signed, stream=True, timeout=TIMEOUT
            )
            _refuse(answer, uri, "read")
            return answer

        return _freshly(once)


class _RefusedError(StorageDeniedError):
    """The store refuses an address, perhaps only because it has expired."""


class _Addresses:
    """Where the parts of an object go."""

    def __init__(self, signed: Json, sign: Callable[[], Json]) -> None:
        self._sign = sign
        self._urls = _urls(signed)
        self._changing = threading.Lock()
        self.numbers = sorted(self._urls)

    @contextmanager
    def of(self, number: int) -> Iterator[str]:
        """Lend the address of a part; where it is refused, all of them are signed anew."""
        url = self._urls[number]
        try:
            yield url
        except _RefusedError:
            with self._changing:
                if self._urls[number] == url:
                    self._urls = _urls(self._sign())
            raise


class _Window:
    """A part of a file, as a body to send."""

    def __init__(self, reader: BinaryIO, start: int, length: int, pace: Pace) -> None:
        reader.seek(start)
        self._reader, self._left, self._pace = reader, length, pace
        self._length = length

    def take_back(self) -> None:
        """What was read did not arrive."""
        self._pace.add(self._left - self._length)

    def __len__(self) -> int:
        return self._length

    def read(self, most: int = -1) -> bytes:
        """Return the next bytes."""
        piece = self._reader.read(self._left if most < 0 else min(most, self._left))
        self._left -= len(piece)
        self._pace.add(len(piece))
        return piece


def _as_signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add nothing: without an auth object, requests would add a login from a .netrc."""
    return request


def _urls(signed: Json) -> dict[int, str]:
    return {int(part["number"]): str(part["url"]) for part in signed["parts"]}


def _freshly(work: Callable[[], Result]) -> Result:
    """Return what the work brings; where its address is refused, with another one."""
    try:
        return work()
    except _RefusedError:
        return work()


def _opened(answer: requests.Response) -> Opened:
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
    try:
        with _answered(uri, "written"):
            answer = requests.put(
                url, data=body, headers=dict(headers), auth=_as_signed, timeout=TIMEOUT
            )
            _refuse(answer, uri, "written")
    except BaseException:
        body.take_back()
        raise
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
    status, code = answer.status_code, _code(answer)
    if status >= 500 or status in PASSING:
        raise PassingError(f"HTTP {status} {code}".strip())
    refused = f"The storage refuses: {uri} cannot be {done}"
    if code == "NoSuchBucket":
        raise StorageDeniedError(f"{refused}: there is no such bucket; BUCKET is to be checked.")
    if status == 404 and done == "read":
        raise ObjectMissingError(f"There is no {uri} in the storage.")
    kind = _RefusedError if status in REFUSED else StorageDeniedError
    raise kind(
        f"{refused}: HTTP {f'{status} {code}'.strip()} for an address that the service signed;"
        " its keys, its clock and the bucket are to be checked."
    )


def _code(answer: requests.Response) -> str:
    """Return the store's own word for what went wrong."""
    with answer:
        found = ERROR_CODE.search(next(answer.iter_content(LONGEST_ERROR), b""))
    return found[1].decode() if found else ""


def _read(answer: requests.Response, key: str) -> Json:
    """Return what the service says of an object, or raise what it means."""
    status = answer.status_code
    try:
        content = answer.json()
    except requests.JSONDecodeError:
        content = None
    if status >= 500 or status in PASSING:
        detail = content.get("detail") if isinstance(content, Mapping) else None
        raise PassingError(f"the service: HTTP {status}" + (f": {detail}" if detail else ""))
    if not isinstance(content, Mapping):
        raise PassingError("the service: an answer that is not its JSON")
    if not answer.ok:
        if status in ELSEWHERE and "code" not in content:
            raise PassingError(f"HTTP {status} of somebody who is not the service")
        raise StorageDeniedError(
            f"The service does not sign for {key}: {content.get('detail') or status}."
        )
    return content
