"""What `dataset push` has sent, a trainer collects from every kind of storage."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.dataset_files import files_of, hash_all
from service.dataset_storage import DatasetStorage
from service.object_store import AccessKeys
from service.storage_url import open_store
from tests.s3 import KEY, SECRET
from tests.storages import BUCKET
from trainer.dataset import obtain_dataset
from trainer.dataset_cache import DatasetCache
from trainer.errors import DatasetInvalidError
from trainer.storage import Storage

pytestmark = pytest.mark.usefixtures("short_pauses")

FILES = {f"images/{number} caf\u00e9.jpg": f"picture {number % 50}" for number in range(60)}


def content_of(root: Path) -> dict[str, str]:
    files = (file for file in root.rglob("*") if file.is_file())
    return {file.relative_to(root).as_posix(): file.read_text() for file in files}


async def test_what_was_pushed_is_collected_and_what_is_gone_is_named(
    storage: Storage, line: Any, tmp_path: Path
) -> None:
    for name, text in FILES.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text(text)
    place = DatasetStorage(
        open_store(f"s3://{BUCKET}", line.url, AccessKeys(KEY, SECRET)), "shapes"
    )
    hashed = hash_all(files_of(tmp_path / "set"), lambda _count: None)
    await place.push_manifest(hashed, {}, datetime.now(UTC), lambda _count: None)
    cache = DatasetCache(tmp_path / "cache", 1_000_000)

    for work, fetched_files in (("first", 50), ("second", 0)):
        (tmp_path / work).mkdir()
        fetched = obtain_dataset(storage, "shapes", tmp_path / work, cache)
        assert content_of(fetched.root) == FILES
        assert (fetched.facts["files"], fetched.facts["fetched_files"]) == (60, fetched_files)

    await place.objects.remove(place.file_name(hashed[0].sha256))
    (tmp_path / "third").mkdir()
    with pytest.raises(DatasetInvalidError, match=r"lists images/0 café\.jpg, but the storage has"):
        obtain_dataset(storage, "shapes", tmp_path / "third", DatasetCache(tmp_path, 0))
