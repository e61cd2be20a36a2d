"""How objects of a bucket are named."""

from __future__ import annotations

from trainer.errors import ObjectMissingError


def uri_of(bucket: str, key: str) -> str:
    """Return the URI of an object."""
    return f"s3://{bucket}/{key}"


def key_in(uri: str, bucket: str) -> str:
    """Return the key that a URI of this bucket names; raises ObjectMissingError."""
    start = uri_of(bucket, "")
    if not uri.startswith(start):
        raise ObjectMissingError(f"The storage is {start}, and {uri} lies elsewhere.")
    return uri.removeprefix(start)
