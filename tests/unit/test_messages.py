"""Records as messages: whose they are, where one ends and the next begins, and their frames."""

from __future__ import annotations

import orjson
import pytest
from aiohttp import WSMsgType
from hypothesis import given
from hypothesis import strategies as st

from projections.events import Record, Source, TrainerEvent
from service import messages
from service.messages import lines_of, messages_of, place_of, text_frame
from service.recent import LARGEST, part_of
from tests.given import START

JOBS = {1: b'{"id":1}', 2: b'{"id":2}'}


def record(position: int, job_id: int, version: int, text: str = "") -> Record:
    return Record(
        position=position,
        job_id=job_id,
        version=version,
        attempt=1,
        event_id="id",
        source=Source.TRAINER,
        trace_id="trace",
        seq=None,
        occurred_at=START,
        recorded_at=START,
        event=TrainerEvent(type="note", data={"text": text}),
    )


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """What a page of a log may hold: two jobs, and positions of others left out."""
    versions, position, made = {1: 0, 2: 0}, 0, []
    for job_id, gap in draw(st.lists(st.tuples(st.sampled_from((1, 2)), st.integers(0, 1)))):
        position += 1 + gap
        versions[job_id] += 1
        made.append(record(position, job_id, versions[job_id]))
    return made


@given(logs())
def test_messages_of_the_log_hold_consecutive_events_of_one_job(records: list[Record]) -> None:
    made = list(messages_of(records, JOBS))

    assert b"".join(message.lines for message in made) == lines_of(records)[0]
    for message in made:
        events = [orjson.loads(line) for line in message.lines.splitlines()]
        positions = [event["position"] for event in events]
        assert {event["job_id"] for event in events} == {message.job_id}
        assert positions == list(range(message.first.position, message.last.position + 1))


@given(logs())
def test_messages_of_a_job_go_by_its_versions(records: list[Record]) -> None:
    own = [each for each in records if each.job_id == 1]
    made = list(messages_of(own, JOBS, 1))

    assert len(made) == (1 if own else 0)
    for message in made:
        assert (message.first, message.last) == (place_of(own[0]), place_of(own[-1]))
        assert message.lines == lines_of(own)[0]


def test_a_message_holds_its_job_beside_the_events() -> None:
    [message] = messages_of([record(1, 2, 1)], JOBS)

    sent = orjson.loads(message.frame[message.frame.index(b"{") :])
    assert sent == {"events": [orjson.loads(message.lines)], "job": {"id": 2}}


def test_lines_are_given_in_parts() -> None:
    text = "x" * (LARGEST // 2)
    lines, count = lines_of([record(n, 1, n, text) for n in range(1, 6)])

    assert count == 2
    assert [orjson.loads(line)["position"] for line in lines.splitlines()] == [1, 2]
    assert lines_of([]) == (b"", 0)


def test_large_events_go_in_messages_of_their_own() -> None:
    text = "x" * (messages.ROOM // 2)
    made = list(messages_of([record(n, 1, n, text) for n in range(1, 6)], JOBS))

    assert [message.first.position for message in made] == [1, 2, 3, 4, 5]
    part = part_of(made)
    assert part is not None
    assert [message.first.position for message in part.messages] == [1, 2, 3]
    assert not part.is_whole
    rest = part_of(made[3:])
    assert rest is not None
    assert rest.is_whole
    assert part_of([]) is None
    small = list(messages_of([record(n, 1, n, "x") for n in range(1, 6)], JOBS))
    assert len(small) == 1


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 300_000])
def test_a_frame_is_read_as_what_was_put_in(length: int) -> None:
    text = b"x" * length

    frame = text_frame(text)

    final, opcode = frame[0] >> 7, frame[0] & 0x0F
    assert (final, opcode) == (1, WSMsgType.TEXT)
    assert frame[1] & 0x80 == 0  # a server does not mask
    said = frame[1]
    header = 2 if said < 126 else 4 if said == 126 else 10
    assert (said if said < 126 else int.from_bytes(frame[2:header], "big")) == length
    assert frame[header:] == text
