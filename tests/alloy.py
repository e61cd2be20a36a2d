"""Reads Alloy's configuration: blocks, attributes and the expressions that we use of them.

There is no Alloy on PyPI. Like Alloy's own parser this one refuses a statement without its line's
end, an item without its comma, and an escape that Go does not know; what it does not know itself it
refuses too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TOKEN = re.compile(
    r"(?P<space>[ \t\r]+|//[^\n]*)"
    r"|(?P<end>\n)"
    r'|(?P<string>"(?:[^"\\\n]|\\["\\nrtabfv])*")'
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>[{}()\[\]=,.])"
)
# After these, a line's end ends the statement, as in Go.
_CLOSES = {"string", "number", "name", "}", "]", ")"}


@dataclass(frozen=True)
class Reference:
    """The name of something that another component exports."""

    path: str


@dataclass(frozen=True)
class Call:
    """A function and what it is called with."""

    function: str
    arguments: tuple[Any, ...]


@dataclass
class Block:
    """A component, or a block within one."""

    name: str
    label: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)

    @property
    def path(self) -> str:
        """What others refer to it by."""
        return f"{self.name}.{self.label}" if self.label else self.name

    def named(self, name: str) -> list[Block]:
        """Return the blocks in it of one kind."""
        return [block for block in self.blocks if block.name == name]


def read(path: Path) -> dict[str, Block]:
    """Return the components of a file by what they are referred to."""
    parser = _Parser(path.read_text(encoding="utf-8"))
    components = parser.body(until="eof").blocks
    found = {component.path: component for component in components}
    assert len(found) == len(components), "two components of one name"
    return found


def references(value: Any) -> Iterator[str]:
    """Yield what a value, or a block, refers to."""
    match value:
        case Reference(path):
            yield path
        case Block():
            yield from references(list(value.attributes.values()) + value.blocks)
        case Call():
            yield from references(list(value.arguments))
        case list():
            for one in value:
                yield from references(one)
        case dict():
            yield from references(list(value.values()))
        case _:
            return


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at, last = 0, ""
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found, f"not understood: {text[at : at + 40]!r}"
        at, kind, value = found.end(), str(found.lastgroup), found.group()
        if kind == "space" or (kind == "end" and last not in _CLOSES):
            continue
        last = value if kind == "sign" else kind
        yield (value, value) if kind == "sign" else (kind, value)
    yield "eof", ""


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._kind, self._text = next(self._tokens)

    def body(self, *, until: str) -> Block:
        """Read statements into a block without a name."""
        block = Block("")
        while self._kind != until:
            self._statement(block)
            if self._kind != until:
                self._take("end")
        return block

    def _statement(self, block: Block) -> None:
        name = self._dotted()
        if self._kind == "=":
            self._take("=")
            assert "." not in name, f"{name} cannot be an attribute"
            assert name not in block.attributes, f"{name} twice"
            block.attributes[name] = self._expression()
            return
        label = json.loads(self._take("string")) if self._kind == "string" else None
        self._take("{")
        inner = self.body(until="}")
        self._take("}")
        block.blocks.append(Block(name, label, inner.attributes, inner.blocks))

    def _dotted(self) -> str:
        parts = [self._take("name")]
        while self._kind == ".":
            self._take(".")
            parts.append(self._take("name"))
        return ".".join(parts)

    def _expression(self) -> Any:
        match self._kind:
            case "string":
                return json.loads(self._take("string"))
            case "number":
                return float(self._take("number"))
            case "[":
                return self._listed("[", "]", self._expression)
            case "{":
                return dict(self._listed("{", "}", self._pair))
            case _:
                return self._name()

    def _name(self) -> Any:
        name = self._dotted()
        if self._kind == "(":
            return Call(name, tuple(self._listed("(", ")", self._expression)))
        return {"true": True, "false": False, "null": None}.get(name, Reference(name))

    def _pair(self) -> tuple[str, Any]:
        kind = self._kind
        name = json.loads(self._take("string")) if kind == "string" else self._take("name")
        self._take("=")
        return name, self._expression()

    def _listed(self, opening: str, closing: str, item: Any) -> list[Any]:
        self._take(opening)
        found = []
        while self._kind != closing:
            found.append(item())
            if self._kind != closing:
                self._take(",")  # behind the last item too, where the line ends there
        self._take(closing)
        return found

    def _take(self, kind: str) -> str:
        assert self._kind == kind, f"{kind!r} is missing before {self._text!r}"
        text = self._text
        if kind != "eof":
            self._kind, self._text = next(self._tokens)
        return text
