"""Which objects of the storage an attempt may read and write by signed addresses. Pure."""

from __future__ import annotations

import re

# What our own trainer and `epochlog dataset push` make; a key is never more than a path.
_KEY = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")
_OF_ATTEMPT = re.compile(r"attempt-(\d+)/.+")
MOST_PARTS = 1_000
"""What `storage/complete` can name in one body, however long its ETags are; S3 takes 10 000."""
MEBIBYTE = 1024 * 1024
PART = 64 * MEBIBYTE
LARGEST = MOST_PARTS * 5 * 1024 * MEBIBYTE
"""With the largest parts that S3 takes; an object of S3 may have little more, 5 TiB."""


def is_key(key: str) -> bool:
    """Return whether it is a plain path below the bucket."""
    return _KEY.fullmatch(key) is not None and not {".", ".."} & set(key.split("/"))


def may_read(key: str, job_id: int, dataset_id: str) -> bool:
    """Return whether it is of the job's data set, or one of its own checkpoints."""
    own = (f"datasets/{dataset_id}/", f"checkpoints/job-{job_id}/")
    return is_key(key) and (key == f"datasets/{dataset_id}.zip" or key.startswith(own))


def may_write(key: str, job_id: int, attempt: int, current: int | None) -> bool:
    """Return whether an attempt may write there.

    Its own folder it may always; what stands for the whole job only as long as it is the current
    one, so that an attempt that was given up never overwrites what came after it. Of a job that is
    over, no attempt is current.
    """
    own = f"checkpoints/job-{job_id}/"
    if not is_key(key) or not key.startswith(own):
        return False
    found = _OF_ATTEMPT.fullmatch(key.removeprefix(own))
    return attempt == (int(found[1]) if found else current)


def part_length(size: int) -> int:
    """Return how long the parts of a large object are, so that there are not too many."""
    least = -(-size // MOST_PARTS)
    return max(PART, -(-least // MEBIBYTE) * MEBIBYTE)
