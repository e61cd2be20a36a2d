"""Records as the feeds send them: JSON lines, and WebSocket messages of one job each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

from projections.events import Record
from service.recent import LARGEST, Message, Place
from service.views import event_view, to_json

ROOM = 128 * 1024
"""Bytes of events in a message, if one is not larger: clients bound what they take at once."""
TEXT = 0x81  # a whole text message in one frame


def lines_of(records: Sequence[Record]) -> tuple[bytes, int]:
    """Return a line of JSON for each record, and for how many: as many as are given at once."""
    lines: list[bytes] = []
    size = 0
    for record in records:
        lines.append(to_json(event_view(record)) + b"\n")
        size += len(lines[-1])
        if size > LARGEST:
            break
    return b"".join(lines), len(lines)


def messages_of(
    records: Iterable[Record], jobs: Mapping[int, bytes], job_id: int | None = None
) -> Iterator[Message]:
    """Yield the records as messages of a job's stream, or of that of the log (None).

    Records of a job whose numbers follow each other there are sent together, with their job.
    """

    def follows(numbered: tuple[int, Record]) -> tuple[int, int]:
        index, record = numbered
        return record.job_id, place_of(record).number(job_id) - index

    for (of_job, _), group in groupby(enumerate(records), follows):
        for part in _parts(record for _, record in group):
            yield _message([record for record, _ in part], [text for _, text in part], jobs[of_job])


def place_of(record: Record) -> Place:
    """Return where the record stands."""
    return Place(record.position, record.version)


def text_frame(text: bytes) -> bytes:
    """Return a text message as a server sends it over a WebSocket (RFC 6455, 5.2)."""
    length = len(text)
    if length < 126:
        return bytes((TEXT, length)) + text
    if length < 65536:
        return bytes((TEXT, 126)) + length.to_bytes(2, "big") + text
    return bytes((TEXT, 127)) + length.to_bytes(8, "big") + text


def _parts(records: Iterable[Record]) -> Iterator[list[tuple[Record, bytes]]]:
    part: list[tuple[Record, bytes]] = []
    size = 0
    for record in records:
        text = to_json(event_view(record))
        if part and size + len(text) > ROOM:
            yield part
            part, size = [], 0
        part.append((record, text))
        size += len(text)
    yield part


def _message(records: Sequence[Record], texts: Sequence[bytes], job: bytes) -> Message:
    first, last = records[0], records[-1]
    return Message(
        job_id=first.job_id,
        first=place_of(first),
        last=place_of(last),
        lines=b"\n".join((*texts, b"")),
        frame=text_frame(b'{"events":[' + b",".join(texts) + b'],"job":' + job + b"}"),
    )
