"""The anchors in the order of their numbers, as the table has them and as a copy has them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from projections.anchored import AnchorChain
from projections.anchors import Anchor, AnchorError, number_of
from projections.findings import Fault, Finding, Findings
from service.anchors import AnchorsFile
from service.postgres import Session

PAGE = 50


async def read_anchors(
    session: Session, chain: AnchorChain, copy: AnchorsFile | None
) -> AsyncGenerator[Anchor, None]:
    """Yield every anchor that bears our signature; the chain finds what is wrong with the others.

    Each is in the table before it is in a copy: what comes later to either is left out.
    """
    size = copy.size() if copy else 0
    newest = await session.value("last_anchor") or 0
    copies = _numbered(copy, size, chain.findings) if copy else iter(())
    copied = next(copies, None)
    async for number, kept in _kept(session, newest):
        while copied is not None and copied[0] < number:
            for anchor in chain.take(copied[0], None, copied[1]):
                yield anchor
            copied = next(copies, None)
        same = copied if copied is not None and copied[0] == number else None
        for anchor in chain.take(number, kept, same[1] if same else None):
            yield anchor
        copied = next(copies, None) if same else copied
    while copied is not None:
        for anchor in chain.take(copied[0], None, copied[1]):
            yield anchor
        copied = next(copies, None)


async def _kept(session: Session, newest: int) -> AsyncIterator[tuple[int, str]]:
    number = 0
    while rows := await session.rows("list_anchors", number + 1, PAGE):
        for row in rows:
            number = row["number"]
            if number > newest:
                return
            yield number, row["line"]


def _numbered(copy: AnchorsFile, size: int, findings: Findings) -> Iterator[tuple[int, str]]:
    """Yield the copy's lines with their numbers, which have to grow."""
    last = 0
    for place, line in enumerate(copy.lines(size), start=1):
        where = f"Line {place} of {copy.path}"
        try:
            number = number_of(line)
        except AnchorError as error:
            findings.add(Finding(fault=error.fault, message=f"{where} {error}."))
            continue
        if number > last:
            yield number, line
            last = number
        else:
            message = f"{where} is anchor {number}, and stands behind anchor {last}."
            findings.add(Finding(fault=Fault.ANCHOR_DIFFERS, message=message, anchor=number))
