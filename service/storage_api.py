"""The routes on which a trainer gets addresses of the storage, so that it needs no keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from service.errors import (
    FieldError,
    ForbiddenKeyError,
    InvalidRequestError,
    JobNotFoundError,
    StorageNotSignedError,
    StorageRefusesError,
    StorageUnavailableError,
)
from service.object_store import ObjectStoreError, StoreRefusesError
from service.request_schemas import (
    AbortUpload,
    CompleteUpload,
    NoQuery,
    ObjectName,
    ObjectToWrite,
)
from service.routing import Call, Reply
from service.storage_keys import PART, is_key, may_read, may_write, part_length
from service.training_storage import Signing


async def sign_get(call: Call[ObjectName, NoQuery]) -> Reply:
    """Sign the reading of the job's data set, or of one of its checkpoints."""
    bucket, key = _signing(call).reading, _key(call.body.key)
    found = await call.instance.store.job(call.job_id)
    if found is None:
        raise JobNotFoundError(f"There is no job {call.job_id}.")
    if not may_read(key, call.job_id, found.state.dataset_id):
        raise ForbiddenKeyError(f"Job {call.job_id} may not read {key}.")
    seconds = call.instance.settings.presign_ttl
    url = await _asked(bucket.sign_get(key, seconds))
    return Reply(payload={"method": "GET", "url": url, "headers": {}, "expires_at": _in(seconds)})


async def sign_put(call: Call[ObjectToWrite, NoQuery]) -> Reply:
    """Sign the writing of a checkpoint, in parts where it is large."""
    bucket, body = _signing(call).writing, call.body
    key = await _writable(call, body.key)
    seconds = call.instance.settings.presign_ttl
    if body.bytes <= PART:
        url = await _asked(bucket.sign_put(key, seconds, body.sha256))
        headers = {"x-amz-meta-sha256": body.sha256}
        signed: dict[str, Any] = {"method": "PUT", "url": url, "headers": headers}
    else:
        length = part_length(body.bytes)
        upload_id = body.upload_id or await _asked(bucket.begin_parts(key, body.sha256))
        count = -(-body.bytes // length)
        urls = await _asked(bucket.sign_parts(key, upload_id, count, seconds))
        parts = [{"number": number, "url": url} for number, url in enumerate(urls, start=1)]
        signed = {"upload_id": upload_id, "part_bytes": length, "parts": parts}
    return Reply(payload={**signed, "expires_at": _in(seconds)})


async def complete(call: Call[CompleteUpload, NoQuery]) -> Reply:
    """Put an object together from its parts."""
    bucket, body = _signing(call).writing, call.body
    key = await _writable(call, body.key)
    parts = [(part.number, part.etag) for part in body.parts]
    await _asked(bucket.complete_parts(key, body.upload_id, parts))
    return Reply(payload={"key": key})


async def abort(call: Call[AbortUpload, NoQuery]) -> Reply:
    """Forget the parts of an object that is not to be."""
    bucket = _signing(call).writing
    key = await _writable(call, call.body.key)
    await _asked(bucket.abort_parts(key, call.body.upload_id))
    return Reply(payload={"key": key})


def _signing(call: Call[Any, NoQuery]) -> Signing:
    if call.instance.signing is None:
        raise StorageNotSignedError
    return call.instance.signing


def _key(key: str) -> str:
    if not is_key(key):
        wanted = FieldError("key", "needs a plain path such as checkpoints/job-7/best.pt")
        raise InvalidRequestError("The key is not a plain path.", errors=[wanted])
    return key


async def _writable(call: Call[Any, NoQuery], key: str) -> str:
    found = await call.instance.store.job(call.job_id)
    if found is None:
        raise JobNotFoundError(f"There is no job {call.job_id}.")
    attempt, state = call.caller.attempt, found.state
    current = None if state.status.is_final else state.attempt
    if not may_write(_key(key), call.job_id, attempt, current):
        raise ForbiddenKeyError(f"Attempt {attempt} of job {call.job_id} may not write {key}.")
    return key


async def _asked(work: Any) -> Any:
    try:
        return await work
    except StoreRefusesError as error:
        raise StorageRefusesError(f"{error}.") from error
    except ObjectStoreError as error:
        raise StorageUnavailableError(str(error)) from error


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)
