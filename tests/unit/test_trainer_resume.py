from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from trainer.checkpoint import Standing, own_fitness, read_standing
from trainer.errors import ResumeError, StorageDeniedError
from trainer.local_storage import LocalStorage
from trainer.past import Checkpoint, Past, read_past
from trainer.resume import Search
from trainer.storage import Stored
from trainer.uploads import Best

ARGUMENTS = {"epochs": 5}


class Told:
    """Whoever is told what was damaged."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def remark(self, kind: str, **data: Any) -> None:
        self.said.append((kind, data["uri"]))


class Earlier:
    """What earlier attempts left in a bucket. A checkpoint's content is its epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = LocalStorage(folder / "bucket")
        self.told = Told()
        self.forgotten: list[str] = []
        recorder: Any = self.told
        self.search = Search(
            storage=self.storage, recorder=recorder, read=self.read, forget_best=self.forget_best
        )
        self.file, self.best = folder / "resume.pt", folder / "weights" / "best.pt"

    def read(self, file: Path) -> Standing:
        content = file.read_text()
        if not content.isdigit():
            raise ResumeError("The checkpoint cannot be read.")
        return Standing(int(content), complete=int(content) == 5)

    def forget_best(self, file: Path) -> None:
        self.forgotten.append(file.read_text())

    def leaves(self, key: str, content: str) -> Stored:
        source = self.folder / "source"
        source.write_text(content)
        return self.storage.store(source, key)

    def checkpoint(self, epoch: int, best: Best | None = None) -> Checkpoint:
        stored = self.leaves(f"attempt-1/checkpoint-{epoch % 2}.pt", str(epoch))
        return Checkpoint(uri=stored.uri, sha256=stored.sha256, epoch=epoch, best=best)

    def best_of(self, epoch: int) -> Best:
        stored = self.leaves("attempt-1/best.pt", f"best of {epoch}")
        return Best(uri=stored.uri, sha256=stored.sha256, bytes=stored.bytes, epoch=epoch)

    def damage(self, uri: str) -> None:
        Path(uri.removeprefix("file://")).write_text("9")


@pytest.fixture
def earlier(tmp_path: Path) -> Earlier:
    return Earlier(tmp_path)


def find(earlier: Earlier, *checkpoints: Checkpoint) -> str | None:
    ground = earlier.search.find(Past(checkpoints=checkpoints), earlier.file, earlier.best)
    return None if ground is None else earlier.file.read_text()


def test_the_newest_checkpoint_is_taken_with_its_best_weights(earlier: Earlier) -> None:
    best = earlier.best_of(1)
    newest, older = earlier.checkpoint(3, best), earlier.checkpoint(2, best)

    assert find(earlier, newest, older) == "3"
    assert earlier.best.read_text() == "best of 1"
    assert earlier.told.said == []
    assert earlier.forgotten == []


def test_a_damaged_one_is_said_and_the_one_before_is_taken(earlier: Earlier) -> None:
    best = earlier.best_of(1)
    newest, older = earlier.checkpoint(3, best), earlier.checkpoint(2, best)
    earlier.damage(newest.uri)

    assert find(earlier, newest, older) == "2"
    assert earlier.told.said == [("checkpoint_damaged", newest.uri)]


def test_a_missing_and_an_unreadable_one_are_passed_by_until_none_is_left(
    earlier: Earlier,
) -> None:
    missing = Checkpoint(uri=(earlier.folder / "gone.pt").as_uri())
    unreadable = Checkpoint(uri=earlier.leaves("x.pt", "no checkpoint").uri)

    assert find(earlier, missing, unreadable) is None
    assert [uri for _, uri in earlier.told.said] == [missing.uri, unreadable.uri]


def test_where_the_best_weights_are_lost_the_checkpoint_is_the_best_from_here_on(
    earlier: Earlier,
) -> None:
    best = earlier.best_of(1)
    earlier.damage(best.uri)

    assert find(earlier, earlier.checkpoint(3, best)) == "3"
    assert earlier.told.said == [("checkpoint_damaged", best.uri)]
    assert earlier.forgotten == ["3"]
    assert earlier.best.read_text() == "3"


def test_an_older_trainers_best_weights_lie_beside_its_checkpoint(earlier: Earlier) -> None:
    earlier.best_of(2)
    named = earlier.checkpoint(3)

    assert find(earlier, Checkpoint(uri=named.uri)) == "3"
    assert earlier.best.read_text() == "best of 2"
    assert earlier.told.said == []


def test_within_the_first_epoch_nothing_is_the_best(earlier: Earlier) -> None:
    assert find(earlier, earlier.checkpoint(0)) == "0"
    assert not earlier.best.exists()
    assert earlier.told.said == []


def test_storage_that_is_denied_is_no_reason_to_start_anew(earlier: Earlier) -> None:
    class Denied(LocalStorage):
        def fetch_uri(self, uri: str, target: Path, *, sha256: str | None = None) -> Stored:
            raise StorageDeniedError

    earlier.search._storage = Denied(earlier.folder)

    with pytest.raises(StorageDeniedError):
        find(earlier, earlier.checkpoint(3))


def test_an_answer_is_read_without_what_makes_no_sense() -> None:
    best = {"uri": "s3://b/best.pt", "sha256": "cd", "bytes": 7, "epoch": 2}
    good = {"uri": "s3://b/c.pt", "sha256": "ab", "bytes": 9, "epoch": 3, "best": best}

    past = read_past(
        {
            "attempt": 2,
            "checkpoints": [good, {"uri": 7}, "x", {"uri": "s3://b/d.pt", "best": {}}],
            "epochs_reported": 4,
            "mlflow_run_id": "run-1",
        }
    )

    assert past == Past(
        checkpoints=(
            Checkpoint(
                uri="s3://b/c.pt",
                sha256="ab",
                epoch=3,
                best=Best(uri="s3://b/best.pt", sha256="cd", bytes=7, epoch=2),
            ),
            Checkpoint(uri="s3://b/d.pt"),
        ),
        epochs_reported=4,
        mlflow_run_id="run-1",
    )
    assert read_past({}) == Past()


def test_the_launchers_address_is_the_last_resort() -> None:
    known = Checkpoint(uri="s3://b/c.pt")
    past = Past(checkpoints=(known,), epochs_reported=4)

    assert past.and_from(None) is past
    assert past.and_from("s3://b/c.pt") is past
    added = past.and_from("s3://b/d.pt")
    assert [one.uri for one in added.checkpoints] == ["s3://b/c.pt", "s3://b/d.pt"]
    assert added.epochs_reported == 4


@pytest.mark.parametrize(
    ("fitness", "best_fitness", "is_best"),
    [(0.5, 0.5, True), (0.4, 0.5, False), (None, None, False), (None, 0.5, False)],
)
def test_a_checkpoint_knows_whether_it_is_the_best(
    fitness: float | None, best_fitness: float | None, is_best: bool
) -> None:
    checkpoint = {
        "epoch": 1,
        "optimizer": {},
        "train_args": ARGUMENTS,
        "best_fitness": best_fitness,
        "train_metrics": {"fitness": fitness},
    }

    assert read_standing(checkpoint, epochs=5).is_best is is_best
    assert own_fitness(checkpoint) == fitness
    assert own_fitness({}) is None


def test_a_hash_is_that_of_the_whole_file(earlier: Earlier) -> None:
    assert earlier.checkpoint(3).sha256 == hashlib.sha256(b"3").hexdigest()
