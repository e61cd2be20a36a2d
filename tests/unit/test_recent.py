"""The newest messages of the feeds: what they hold follows exactly, or it is not given."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.recent import Message, Part, Place, Recent

SIZE = 10


def message(position: int, job_id: int, version: int, events: int = 1) -> Message:
    """A message of some consecutive events of a job, as large as all others."""
    return Message(
        job_id=job_id,
        first=Place(position, version),
        last=Place(position + events - 1, version + events - 1),
        lines=b"",
        frame=b"x" * SIZE,
    )


@st.composite
def logs(draw: st.DrawFn) -> list[Message]:
    """A whole log of a few jobs, in messages."""
    made: list[Message] = []
    position, versions = 1, dict.fromkeys((1, 2, 3), 1)
    for job_id, events in draw(st.lists(st.tuples(st.sampled_from((1, 2, 3)), st.integers(1, 3)))):
        made.append(message(position, job_id, versions[job_id], events))
        position += events
        versions[job_id] += events
    return made


@given(
    log=logs(),
    missing=st.sets(st.integers(0, 40), max_size=4),
    room=st.integers(1, 40),
    job_id=st.sampled_from((None, 1, 2, 3)),
    number=st.integers(0, 60),
)
def test_what_is_given_is_what_the_log_says_next(
    log: list[Message], missing: set[int], room: int, job_id: int | None, number: int
) -> None:
    recent = Recent(room * SIZE)
    added = [each for index, each in enumerate(log) if index not in missing]
    for each in added:
        recent.add(each)

    part = recent.after(job_id, number)
    given = part.messages if part else []
    again = recent.after(job_id, number)

    stream = [each for each in log if job_id in {None, each.job_id}]
    follows = [each for each in stream if each.first.number(job_id) > number]
    assert given == follows[: len(given)]
    assert part is again
    if given:
        assert given[0].first.number(job_id) == number + 1
    kept = added[-room:]
    if follows and follows[0].first.number(job_id) == number + 1 and follows[0] in kept:
        assert given


@given(log=logs(), room=st.integers(1, 10))
def test_it_holds_no_more_than_it_has_room_for(log: list[Message], room: int) -> None:
    recent = Recent(room * SIZE)

    for each in log:
        recent.add(each)
        held = recent.after(None, each.first.position - 1)
        assert held is not None
        assert recent.size <= room * SIZE


def test_nothing_is_given_from_the_middle_of_a_message() -> None:
    recent = Recent()
    recent.add(message(1, job_id=1, version=1, events=3))

    assert recent.after(None, 1) is None
    assert recent.after(1, 2) is None
    assert recent.after(1, 0) == Part([message(1, job_id=1, version=1, events=3)])


def test_a_cleared_one_knows_nothing() -> None:
    recent = Recent()
    recent.add(message(1, job_id=1, version=1))
    assert recent.after(None, 0)

    recent.clear()

    assert recent.after(None, 0) is recent.after(1, 0) is None


def test_what_is_new_is_given_to_who_has_asked_before() -> None:
    recent = Recent()
    assert recent.after(None, 0) is None

    recent.add(message(1, job_id=1, version=1))
    assert recent.after(None, 0) == Part([message(1, job_id=1, version=1)])

    recent.add(message(2, job_id=2, version=1))
    part = recent.after(None, 0)
    assert part is not None
    assert part.last == Place(2, 1)
    assert part.frames == b"x" * (2 * SIZE)
