"""A bucket of an S3-compatible store, by access keys: the only file that knows boto3."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from trainer.configuration import StorageKeys
from trainer.errors import ObjectMissingError, StorageDeniedError, StorageSupersededError
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

PART = 64 * CHUNK
AT_ONCE = 4
# A signature names a region; stores other than AWS take any, and R2 calls its only one `auto`.
REGION = "us-east-1"
# Ours is the one place that tries again: it also goes on in the middle of an object ...
NO_RETRIES = {"total_max_attempts": 1}
# ... but of an object that is sent in parts, only the client can repeat one of them.
RETRIED_PARTS = {"total_max_attempts": 5, "mode": "standard"}

MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
CHANGED = frozenset({"412", "416", "PreconditionFailed", "InvalidRange"})
PASSING = frozenset(
    {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable", "Throttling"}
)
# While it reads an object, botocore lets some of urllib3's own errors through.
BROKEN_LINE = (
    BotoCoreError,
    ResponseStreamingError,
    HTTPError,
    ConnectionError,
    TimeoutError,
)
# Of clocks that differ, some stores tell in words only.
CLOCK = re.compile("RequestTimeTooSkewed|RequestExpired|request time", re.IGNORECASE)
WRONG_CLOCK = "this machine's clock is wrong by more than it allows"
WORDS = {
    "NoSuchBucket": "there is no such bucket; BUCKET and R2_ENDPOINT are to be checked",
    "InvalidAccessKeyId": "it does not know the access key; R2_ACCESS_KEY_ID is to be checked",
    "SignatureDoesNotMatch": "the secret is not that of the key; R2_SECRET_ACCESS_KEY is wrong",
    "AccessDenied": "the key may not do that; its permissions are to be checked",
    "403": "the key may not do that; key, secret and permissions are to be checked",
}


class S3Storage:
    """Objects of one bucket, read with one key and written with another."""

    def __init__(
        self,
        *,
        bucket: str,
        endpoint: str | None,
        keys: StorageKeys,
        part: int = PART,
        step: Step = uncounted,
    ) -> None:
        """Take the bucket; above `part` bytes an object is sent in parts of that size."""
        self._bucket = bucket
        self._step = step
        self._reading = _client(endpoint, keys.read)
        self._writing = _client(endpoint, keys.write) if keys.write != keys.read else self._reading
        self._writing_parts = _client(endpoint, keys.write, RETRIED_PARTS)
        self._part = part
        self._sending = TransferConfig(
            multipart_threshold=part, multipart_chunksize=part, max_concurrency=AT_ONCE
        )

    def fetch(self, key: str, target: Path, *, sha256: str | None = None) -> Stored:
        """Copy an object to a file, going on where the line broke."""
        uri = uri_of(self._bucket, key)

        @contextmanager
        def open_at(start: int, etag: str | None) -> Iterator[Opened]:
            with self._explained("read", uri):
                answer = self._answer(key, start, etag)
                with closing(answer["Body"]):  # of a line that was cut, too
                    yield _opened(answer)

        digest, size = download(uri, open_at, target, sha256, self._step)
        return Stored(uri, digest, size)

    def fetch_uri(self, uri: str, target: Path, *, sha256: str | None = None) -> Stored:
        """Copy what an s3:// URI of this bucket names."""
        return self.fetch(key_in(uri, self._bucket), target, sha256=sha256)

    def store(self, source: Path, key: str, *, owner: Owner | None = None) -> Stored:
        """Send a file, in parts where it is large; readers never see half of one."""
        uri = uri_of(self._bucket, key)
        digest, size = digest_of(source)
        about = {"Metadata": {"sha256": digest, **_marks(owner)}}

        def send() -> None:
            pace = Pace(uri, size)
            client = self._writing if size < self._part else self._writing_parts
            # By its name, not as an open file: of that one, boto3 holds ten parts in memory.
            with self._explained("written", uri):
                self._refuse_if_older(owner, key, uri)
                client.upload_file(
                    str(source),
                    self._bucket,
                    key,
                    ExtraArgs=about,
                    Callback=pace.add,
                    Config=self._sending,
                )

        persistently(uri, send)
        return Stored(uri, digest, size)

    def _refuse_if_older(self, owner: Owner | None, key: str, uri: str) -> None:
        """Look whose object is there; where the key to read with may not, nobody can tell."""
        if owner is None:
            return
        try:
            answer = self._reading.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if _status(error) in {400, 401, 403, 404}:
                return
            raise
        # Stores do not keep how these names were written.
        found = {name.lower(): text for name, text in answer.get("Metadata", {}).items()}
        attempt = found.get("attempt", "")
        same_job = found.get("trace") == _marks(owner)["trace"]
        if same_job and attempt.isdecimal() and int(attempt) > owner.attempt:
            raise StorageSupersededError(
                f"{uri} is of attempt {attempt}, which came after this one; it stays as it is."
            )

    def _answer(self, key: str, start: int, etag: str | None) -> Any:
        """Ask for the object from an offset on; for all of it where it is another one now."""
        asked = {"Range": f"bytes={start}-", "IfMatch": etag} if start and etag else {}
        try:
            return self._reading.get_object(Bucket=self._bucket, Key=key, **asked)
        except ClientError as error:
            if not asked or _code(error) not in CHANGED:
                raise
            return self._reading.get_object(Bucket=self._bucket, Key=key)

    @contextmanager
    def _explained(self, done: str, uri: str) -> Iterator[None]:
        """Raise our own errors, each with what to look at."""
        try:
            yield
        except ClientError as error:
            _explain(error, done, uri)
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StorageDeniedError(
                f"{uri} cannot be {done}: there are no keys; R2_ACCESS_KEY_ID and"
                " R2_SECRET_ACCESS_KEY are to be set."
            ) from error
        except S3UploadFailedError as error:
            _explain_failed(error, done, uri)
        except BROKEN_LINE as error:
            raise PassingError(f"{type(error).__name__}: {error}") from error


def _opened(answer: Any) -> Opened:
    start = offset_in(answer.get("ContentRange"))
    return Opened(
        pieces=answer["Body"].iter_chunks(CHUNK),
        start=start,
        total=start + int(answer["ContentLength"]),
        etag=answer.get("ETag"),
    )


def _client(
    endpoint: str | None, keys: tuple[str, str] | None, retries: Mapping[str, Any] = NO_RETRIES
) -> Any:
    key, secret = keys or (None, None)
    style = {"addressing_style": "path"} if endpoint else {}
    session = boto3.session.Session()
    return session.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name=session.region_name or REGION,
        config=Config(retries=dict(retries), connect_timeout=5, read_timeout=30, s3=style),
    )


def _explain(error: ClientError, done: str, uri: str) -> NoReturn:
    code, status = _code(error), _status(error)
    if code in MISSING:
        raise ObjectMissingError(f"There is no {uri} in the storage.") from error
    if code in PASSING or status is None or status >= 500 or status in {408, 429}:
        raise PassingError(f"HTTP {status} {code}") from error
    if CLOCK.search(f"{code} {error.response.get('Error', {}).get('Message', '')}"):
        words = WRONG_CLOCK
    else:
        words = WORDS.get(code) or WORDS.get(str(status)) or f"it answers {status} {code}"
    raise StorageDeniedError(f"The storage refuses: {uri} cannot be {done}: {words}.") from error


def _explain_failed(error: S3UploadFailedError, done: str, uri: str) -> NoReturn:
    """Raise what boto3 had found before it wrapped that up."""
    if isinstance(error.__context__, ClientError):
        _explain(error.__context__, done, uri)
    raise PassingError(str(error)) from error


def _marks(owner: Owner | None) -> dict[str, str]:
    """Return what an object says of whose it is; ids of jobs are given again with a new log."""
    if owner is None:
        return {}
    return {"attempt": str(owner.attempt), "trace": quote(owner.trace_id)}


def _status(error: ClientError) -> int | None:
    status: int | None = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
