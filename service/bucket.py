"""A bucket of an S3-compatible store. The only file that knows an S3 library."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientPayloadError as BrokenOffError

from service.errors import SettingsError
from service.object_store import (
    CHUNK,
    AccessKeys,
    ObjectMissingError,
    ObjectStoreError,
    StoreRefusesError,
)
from service.sent_file import SentFile, Tell, ignore

SCHEME = "s3://"
PART = 8 * CHUNK
"""Above this length an object is sent in parts, at least as long as this."""
MOST_PARTS = 10_000
"""More parts S3 takes of no object."""
FOR_GOOD = frozenset(
    {"403", "AccessDenied", "InvalidAccessKeyId", "NoSuchBucket", "SignatureDoesNotMatch"}
)
AT_ONCE = 4
"""How many parts of an object are on their way, and in memory, at once."""


class Bucket:
    """Keeps objects in a bucket; without keys, credentials are those that every S3 client finds."""

    def __init__(
        self, bucket: str, prefix: str, endpoint: str | None, keys: AccessKeys | None = None
    ) -> None:
        try:
            import aioboto3  # noqa: PLC0415 - an optional extra
            from boto3.exceptions import Boto3Error  # noqa: PLC0415
            from botocore.config import Config  # noqa: PLC0415
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
            from botocore.handlers import add_expect_header  # noqa: PLC0415
        except ImportError as error:
            raise SettingsError(
                f"{SCHEME}{bucket} needs the extra `s3`: pip install 'epochlog[s3]'"
            ) from error
        self._bucket, self._prefix = bucket, prefix
        self._session = aioboto3.Session()
        # Who asks first whether a body may come (`Expect: 100-continue`) is not to wait for ever
        # (RFC 9110, 10.1.1), but aiohttp does, and without its time-outs, where the 100 is lost.
        self._session.events.unregister("before-call.s3", add_expect_header)
        self._errors: tuple[type[Exception], ...] = (Boto3Error, BotoCoreError, ClientError)
        style = {"addressing_style": "path"} if endpoint else {}
        config = Config(signature_version="s3v4", retries={"mode": "standard"}, s3=style)
        self._options: dict[str, Any] = {"endpoint_url": endpoint, "config": config}
        if keys is not None:
            self._options |= {
                "aws_access_key_id": keys.key_id,
                "aws_secret_access_key": keys.secret,
            }
            # Signatures name a region; a store of one's own takes any.
            if endpoint and not {"AWS_REGION", "AWS_DEFAULT_REGION"} & os.environ.keys():
                self._options["region_name"] = "us-east-1"
        self._held: Any = None

    @property
    def url(self) -> str:
        """The bucket and the prefix."""
        return f"{SCHEME}{self._bucket}/{self._prefix}".rstrip("/")

    async def put(
        self, name: str, source: Path, *, sha256: str | None = None, tell: Tell = ignore
    ) -> None:
        """Upload the file, and look that the whole of it arrived."""
        key, sent = self._key(name), SentFile(source, sha256, tell)
        size = await asyncio.to_thread(sent.size)
        async with self._client(name) as client:
            if size > PART:
                await self._put_parts(client, key, sent, size)
            else:
                body = await asyncio.to_thread(sent.next_piece, PART)
                sent.refuse_other()
                await client.put_object(Bucket=self._bucket, Key=key, Body=body)
                sent.tell(len(body))
            kept = await client.head_object(Bucket=self._bucket, Key=key)
        if kept["ContentLength"] != size:
            raise ObjectStoreError(f"{self.url}/{name} did not arrive whole.")

    async def _put_parts(self, client: Any, key: str, file: SentFile, size: int) -> None:
        """Upload a large file, a few parts at a time; where this fails, the store keeps none.

        Not by aioboto3's own upload: that one reads up to a thousand parts ahead of a slow line,
        and leaves behind those of an upload that is interrupted.
        """
        length = max(PART, -(-size // MOST_PARTS))
        numbers = iter(range(1, -(-size // length) + 1))
        reading = asyncio.Lock()
        parts: list[dict[str, Any]] = []
        begun = await client.create_multipart_upload(Bucket=self._bucket, Key=key)
        upload = {"Bucket": self._bucket, "Key": key, "UploadId": begun["UploadId"]}

        async def send() -> None:
            while True:
                async with reading:
                    if (number := next(numbers, None)) is None:
                        return
                    body = await asyncio.to_thread(file.next_piece, length)
                sent = await client.upload_part(**upload, PartNumber=number, Body=body)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
                file.tell(len(body))

        senders = [asyncio.create_task(send()) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*senders)
            file.refuse_other()
            parts.sort(key=lambda part: part["PartNumber"])
            await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)
            with suppress(Exception):  # the store's own rules may do it later
                await client.abort_multipart_upload(**upload)
            raise

    async def fetch(self, name: str, target: Path) -> None:
        """Download the object."""
        async with self._client(name) as client:
            answer = await client.get_object(Bucket=self._bucket, Key=self._key(name))
            body = answer["Body"]
            async with body:
                with target.open("wb") as file:
                    while chunk := await body.read(CHUNK):
                        file.write(chunk)

    async def sizes(self, prefix: str) -> dict[str, int]:
        """List the bucket, a thousand objects at a time."""
        found: dict[str, int] = {}
        cut = len(self._key(""))
        async with self._client(prefix) as client:
            pages = client.get_paginator("list_objects_v2")
            async for page in pages.paginate(Bucket=self._bucket, Prefix=self._key(prefix)):
                for one in page.get("Contents", ()):
                    found[one["Key"][cut:]] = one["Size"]
        return found

    async def remove(self, name: str) -> None:
        """Delete the object."""
        async with self._client(name) as client:
            await client.delete_object(Bucket=self._bucket, Key=self._key(name))

    async def sign_get(self, name: str, seconds: float) -> str:
        """Return an address from which anybody may read the object for a while."""
        return await self._signed("get_object", name, seconds)

    async def sign_put(self, name: str, seconds: float, sha256: str) -> str:
        """Return an address to which anybody may write it, with this hash as its metadata."""
        return await self._signed("put_object", name, seconds, Metadata={"sha256": sha256})

    async def begin_parts(self, name: str, sha256: str) -> str:
        """Begin an object that comes in parts; return what the store calls that."""
        async with self._client(name) as client:
            begun = await client.create_multipart_upload(
                Bucket=self._bucket, Key=self._key(name), Metadata={"sha256": sha256}
            )
        return str(begun["UploadId"])

    async def sign_parts(self, name: str, upload_id: str, count: int, seconds: float) -> list[str]:
        """Return the addresses to which parts 1, 2, 3 … of the object may be written."""
        about: dict[str, Any] = {"UploadId": upload_id}
        urls = []
        for number in range(1, count + 1):
            about["PartNumber"] = number
            urls.append(await self._signed("upload_part", name, seconds, **about))
            await asyncio.sleep(0)  # signing only computes, and others are to have their turn
        return urls

    async def complete_parts(
        self, name: str, upload_id: str, parts: Sequence[tuple[int, str]]
    ) -> None:
        """Put the object together from the parts with these numbers and ETags."""
        listed = [{"PartNumber": number, "ETag": etag} for number, etag in parts]
        async with self._client(name) as client:
            await client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key(name),
                UploadId=upload_id,
                MultipartUpload={"Parts": listed},
            )

    async def abort_parts(self, name: str, upload_id: str) -> None:
        """Forget the parts that came."""
        async with self._client(name) as client:
            await client.abort_multipart_upload(
                Bucket=self._bucket, Key=self._key(name), UploadId=upload_id
            )

    async def _signed(self, operation: str, name: str, seconds: float, **about: Any) -> str:
        async with self._client(name) as client:
            url = await client.generate_presigned_url(
                operation,
                Params={"Bucket": self._bucket, "Key": self._key(name), **about},
                ExpiresIn=int(seconds),
            )
        return str(url)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Use one client for everything inside, whose own errors stay what they are."""
        opened = self._session.client("s3", **self._options)
        try:
            self._held = await opened.__aenter__()
        except self._errors as error:
            raise ObjectStoreError(f"{self.url} cannot be reached: {error}") from error
        try:
            yield
        finally:
            self._held = None
            await opened.__aexit__(None, None, None)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    @asynccontextmanager
    async def _client(self, name: str) -> AsyncIterator[Any]:
        """Lend a client whose errors are ours."""
        where = f"{self.url}/{name}"
        try:
            if self._held is not None:
                yield self._held
                return
            async with self._session.client("s3", **self._options) as client:
                yield client
        except self._errors as error:
            said = (getattr(error, "response", None) or {}).get("Error", {})
            code, words = said.get("Code"), str(said.get("Message", "")).rstrip(".")
            if code in ("404", "NoSuchKey"):
                raise ObjectMissingError(f"There is no {where}.") from error
            if code:
                why = f"{words} ({code})" if words else code
                kind = StoreRefusesError if code in FOR_GOOD else ObjectStoreError
                raise kind(f"{where} is refused by the store: {why}") from error
            raise ObjectStoreError(f"{where} cannot be reached: {error}") from error
        except (OSError, BrokenOffError) as error:
            raise ObjectStoreError(f"{where} cannot be transferred: {error}") from error
