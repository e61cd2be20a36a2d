"""What is printed gets out whole, also through a pipe that takes a part of it at a time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from service.page import buffered

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PAGE = "a page with an é, longer than the pipe takes at once\n" * 20


class NarrowPipe(io.RawIOBase):
    """Takes ten bytes a call, as a full pipe does of a process that is stopped while it writes."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        taken = bytes(data)[:10]
        self.taken += taken
        return len(taken)


def unbuffered(pipe: NarrowPipe) -> io.TextIOWrapper:
    """Return the stdout of a Python with PYTHONUNBUFFERED."""
    return io.TextIOWrapper(pipe, "utf-8", write_through=True)  # type: ignore[arg-type]


def test_python_alone_loses_what_the_pipe_does_not_take() -> None:
    pipe = NarrowPipe()
    unbuffered(pipe).write(PAGE)
    assert len(pipe.taken) == 10


def test_a_page_is_printed_whole_by_the_end_of_its_last_line() -> None:
    pipe = NarrowPipe()
    stdout = unbuffered(pipe)
    buffered(stdout).write(PAGE)
    assert pipe.taken.decode() == PAGE


def test_a_stream_that_has_a_buffer_stays_as_it_is() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8")
    assert buffered(stream) is stream
    nothing = io.StringIO()
    assert buffered(nothing) is nothing
