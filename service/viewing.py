"""The viewer of an incident bundle: one HTML page that opens from disk and needs no network.

Its data lies in it compressed and in base64, an alphabet without `<`: whatever a job was called, it
can never be read as a part of the page. The page's own policy allows its one script and style by
their hashes and nothing else, no network either.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files

STYLES = ("viewer.css",)
SCRIPTS = ("data.js", "page.js", "story.js", "chart.js", "events.js", "viewer.js")
_DATA = "<!-- data -->"


def viewer_page(data: Mapping[str, Iterable[bytes]]) -> Iterator[bytes]:
    """Yield the page with each of these as a block of data."""
    before, _, after = _page().partition(_DATA)
    yield before.encode()
    for name, chunks in data.items():
        yield f'<script type="application/gzip;base64" id="data-{name}">'.encode()
        yield from _packed(chunks)
        yield b"</script>\n"
    yield after.encode()


def readme() -> str:
    """Return the text that explains a bundle, with places for what differs."""
    return _read("README.txt")


@cache
def _page() -> str:
    style = "\n".join(_read(name) for name in STYLES)
    script = '"use strict";\n' + "\n".join(_read(name) for name in SCRIPTS)
    page = _read("index.html")
    for place, text in (
        ("{{style-hash}}", _hash(style)),
        ("{{script-hash}}", _hash(script)),
        ("{{style}}", style),
        ("{{script}}", script),
    ):
        page = page.replace(place, text, 1)
    return page


def _read(name: str) -> str:
    return files("service").joinpath("viewer", name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


def _packed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks as gzip in base64, which takes three bytes at a time."""
    squeeze, rest = zlib.compressobj(wbits=31), b""
    for chunk in chunks:
        rest += squeeze.compress(chunk)
        whole = len(rest) - len(rest) % 3
        yield b64encode(rest[:whole])
        rest = rest[whole:]
    yield b64encode(rest + squeeze.flush())
