"""What an attempt may go on from: everything its job ever reported, also what came too late."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

from projections.checkpoints import damaged_in, newest_first, replaces, saved_in
from projections.events import Data, Done, Record, TrainerEvent
from projections.progress import completed_epoch, tracking_run_in, whole_number

MOST_OFFERED = 10


class Weights(TypedDict):
    """The best weights up to a checkpoint."""

    uri: str
    sha256: str | None
    bytes: int | None
    epoch: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A checkpoint, and what is known of the object behind it."""

    uri: str
    sha256: str | None
    bytes: int | None
    epoch: int | None
    attempt: int
    position: int
    partial: bool
    """It was saved within the epoch after `epoch`."""
    best: Weights | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Where a training can go on."""

    checkpoints: Sequence[Offer]
    """The newest first."""
    epochs_reported: int
    """The last epoch that was ever reported as complete; 0 before the first."""
    mlflow_run_id: str | None


def resume(records: Iterable[Record]) -> Resume:
    """Return what a job's records offer to its next attempt."""
    search = Search()
    for record in records:
        search.add(record)
    return search.finished()


@dataclass(slots=True)
class Search:
    """A resume in the making: add a job's records in order, whether they counted or not."""

    _offers: dict[str, Offer] = field(default_factory=dict)
    _damaged: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By address: the attempt that found it to be of no use, and where that was recorded."""
    _best: dict[str, tuple[tuple[int, int], Weights]] = field(default_factory=dict)
    """By address: what lies there, by the last word on it."""
    _epochs: int = 0
    _run: tuple[int, str] | None = None

    def add(self, record: Record) -> None:
        """Take the next record."""
        self._epochs = max(self._epochs, completed_epoch(record.event) or 0)
        if isinstance(record.event, TrainerEvent | Done):
            self._note_run(record.attempt, tracking_run_in(record.event))
        if (offer := _offer(record)) is not None:
            self._note_offer(offer)
        elif (uri := damaged_in(record.event)) is not None:
            found = record.attempt, record.position
            self._damaged[uri] = max(found, self._damaged.get(uri, found))

    def finished(self) -> Resume:
        """Return what the records so far offer."""
        sound = [offer for offer in self._offers.values() if not self._is_damaged(offer)]
        return Resume(
            checkpoints=[self._as_it_lies(offer) for offer in newest_first(sound)[:MOST_OFFERED]],
            epochs_reported=self._epochs,
            mlflow_run_id=self._run[1] if self._run else None,
        )

    def _note_run(self, attempt: int, run_id: str | None) -> None:
        if run_id is not None and (self._run is None or attempt >= self._run[0]):
            self._run = attempt, run_id

    def _note_offer(self, offer: Offer) -> None:
        known = self._offers.get(offer.uri)
        if known is None or replaces(offer, known):
            self._offers[offer.uri] = offer
        if offer.best is not None:
            written = offer.attempt, offer.epoch or 0
            uri = offer.best["uri"]
            if uri not in self._best or written >= self._best[uri][0]:
                self._best[uri] = written, offer.best

    def _is_damaged(self, offer: Offer) -> bool:
        found = self._damaged.get(offer.uri)
        return found is not None and (offer.attempt, offer.position) <= found

    def _as_it_lies(self, offer: Offer) -> Offer:
        """Return the offer with the hash of what lies at its best weights' address by now."""
        if offer.best is None:
            return offer
        best = self._best[offer.best["uri"]][1]
        return replace(offer, best=best)


def _offer(record: Record) -> Offer | None:
    saved = saved_in(record)
    if saved is None or not isinstance(record.event, TrainerEvent):
        return None
    data = record.event.data
    return Offer(
        uri=saved.uri,
        sha256=_text(data, "sha256"),
        bytes=whole_number(data.get("bytes")),
        epoch=saved.epoch,
        attempt=saved.attempt,
        position=saved.position,
        partial=data.get("partial") is True,
        best=_weights(data.get("best")),
    )


def _weights(value: Any) -> Weights | None:
    match value:
        case {"uri": str(uri)} if uri:
            return {
                "uri": uri,
                "sha256": _text(value, "sha256"),
                "bytes": whole_number(value.get("bytes")),
                "epoch": whole_number(value.get("epoch")),
            }
        case _:
            return None


def _text(data: Data, name: str) -> str | None:
    value = data.get(name)
    return value if isinstance(value, str) else None
