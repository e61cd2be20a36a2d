"""What Promtail and Alloy make of a target and of a line: relabelling, and the stages that we use.

Neither is to be had from PyPI. This follows their documentation, with RE2 for the expressions, and
refuses each stage and each setting that it does not know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import jmespath
import re2

from tests.alloy import Block, Reference
from tests.logql import selects

Stage = Mapping[str, Any]

CRI = r"(?s)^(?P<time>\S+?) (?P<stream>stdout|stderr) (?P<flags>\S+?) (?P<content>.*)$"
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
# Not the stages' names alone: Alloy spells this one differently.
PROMTAILS = {"label_drop": "labeldrop"}


@dataclass
class Entry:
    """A line on its way to Loki."""

    line: str
    labels: dict[str, str]
    time: datetime
    metadata: dict[str, str] = field(default_factory=dict)
    extracted: dict[str, Any] = field(default_factory=dict)


def ship(stages: Sequence[Stage], line: str, labels: Mapping[str, str], read_at: datetime) -> Entry:
    """Return what Loki is sent of a line that was read from a target with these labels."""
    entry = Entry(line, dict(labels), read_at, extracted=dict(labels))
    _run(stages, entry)
    # An empty label is none.
    entry.labels = {name: value for name, value in entry.labels.items() if value}
    return entry


def relabelled(
    rules: Sequence[Mapping[str, Any]], found: Mapping[str, str]
) -> dict[str, str] | None:
    """Return the labels of a target, the internal ones too; None where it is not kept."""
    labels = dict(found)
    for rule in rules:
        assert set(rule) <= {
            "source_labels", "separator", "regex", "replacement", "target_label", "action",
        }, rule  # fmt: skip
        values = [labels.get(name, "") for name in rule["source_labels"]]
        fits = re2.fullmatch(rule.get("regex", "(.*)"), rule.get("separator", ";").join(values))
        match rule.get("action", "replace"):
            case "keep":
                if not fits:
                    return None
            case "replace" if fits:
                replacement = re.sub(r"\$(\d)", r"\\\1", rule.get("replacement", "$1"))
                labels[rule["target_label"]] = fits.expand(replacement)
            case "replace":
                pass
            case action:
                raise AssertionError(action)
    return labels


def public(labels: Mapping[str, str]) -> dict[str, str]:
    """Return what of a target's labels its lines get."""
    return {name: value for name, value in labels.items() if value and not name.startswith("__")}


def stages_of(block: Block) -> list[Stage]:
    """Return the stages of a block of Alloy's as Promtail has them."""
    return [_stage_of(one) for one in block.blocks]


def rules_of(block: Block) -> list[Mapping[str, Any]]:
    """Return the rules of a discovery.relabel as Promtail has them."""
    return [rule.attributes for rule in block.named("rule")]


def path_to_loki(components: Mapping[str, Block], source: str) -> list[Stage]:
    """Return the stages between a source and what writes to Loki, along Alloy's references."""
    [receiver] = components[source].attributes["forward_to"]
    assert isinstance(receiver, Reference)
    path, export = receiver.path.rsplit(".", 1)
    assert export == "receiver"
    if path.startswith("loki.write."):
        assert path in components
        return []
    return stages_of(components[path]) + path_to_loki(components, path)


def _stage_of(block: Block) -> Stage:
    kind = block.name.removeprefix("stage.")
    kind = PROMTAILS.get(kind, kind)
    settings: Any = dict(block.attributes)
    if kind == "match":
        settings["stages"] = stages_of(block)
    elif set(settings) == {"values"}:
        settings = settings["values"]
    return {kind: settings}


def _run(stages: Sequence[Stage], entry: Entry) -> None:
    for stage in stages:
        [(kind, settings)] = stage.items()
        STAGES[kind](entry, settings)


def _match(entry: Entry, settings: Mapping[str, Any]) -> None:
    assert set(settings) == {"selector", "stages"}
    if selects(settings["selector"], entry.labels, entry.line):
        _run(settings["stages"], entry)


def _cri(entry: Entry, settings: Mapping[str, Any] | None) -> None:
    assert not settings
    found = re2.search(CRI, entry.line)
    if not found:
        return
    assert found["flags"] == "F", "a line that was cut in pieces is put together first"
    entry.extracted |= {"timestamp": found["time"], "stream": found["stream"]}
    entry.labels["stream"] = found["stream"]
    entry.time = datetime.fromisoformat(found["time"])
    entry.line = found["content"]


def _regex(entry: Entry, settings: Mapping[str, Any]) -> None:
    assert set(settings) <= {"source", "expression"}
    text = _text(entry.extracted.get(settings["source"])) if "source" in settings else entry.line
    found = re2.search(settings["expression"], text) if text is not None else None
    if found:
        # A group that did not take part is an empty text in Go.
        entry.extracted |= {name: value or "" for name, value in found.groupdict().items()}


def _json(entry: Entry, settings: Mapping[str, Any]) -> None:
    assert set(settings) == {"expressions"}
    try:
        told = json.loads(entry.line)
    except ValueError:
        return
    if isinstance(told, dict):
        for name, expression in settings["expressions"].items():
            entry.extracted[name] = jmespath.search(expression or name, told)


def _template(entry: Entry, settings: Mapping[str, Any]) -> None:
    assert set(settings) == {"source", "template"}
    assert settings["template"] == "{{ ToLower .Value }}"
    value = _text(entry.extracted.get(settings["source"]))
    if value is not None:  # of no value the template makes nothing
        entry.extracted[settings["source"]] = value.lower()


def _timestamp(entry: Entry, settings: Mapping[str, Any]) -> None:
    assert set(settings) == {"source", "format", "action_on_failure"}
    assert (settings["format"], settings["action_on_failure"]) == ("RFC3339Nano", "skip")
    value = _text(entry.extracted.get(settings["source"]))
    if value is not None and RFC3339.fullmatch(value):
        entry.time = datetime.fromisoformat(value)


def _labels(entry: Entry, settings: Mapping[str, str | None]) -> None:
    entry.labels |= _chosen(entry, settings)


def _structured_metadata(entry: Entry, settings: Mapping[str, str | None]) -> None:
    assert not set(settings) & set(entry.labels), "it would take a label away"
    entry.metadata |= _chosen(entry, settings)


def _chosen(entry: Entry, settings: Mapping[str, str | None]) -> dict[str, str]:
    found = {name: _text(entry.extracted.get(source or name)) for name, source in settings.items()}
    return {name: value for name, value in found.items() if value is not None}


def _labeldrop(entry: Entry, settings: Sequence[str]) -> None:
    for name in settings:
        entry.labels.pop(name, None)


def _text(value: Any) -> str | None:
    """Return a value as Go writes it; None where there is none."""
    match value:
        case None | str():
            return value
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case int() | float():
            return str(value)
        case _:
            return json.dumps(value, separators=(",", ":"))


STAGES: dict[str, Callable[[Entry, Any], None]] = {
    "cri": _cri,
    "json": _json,
    "labeldrop": _labeldrop,
    "labels": _labels,
    "match": _match,
    "regex": _regex,
    "structured_metadata": _structured_metadata,
    "template": _template,
    "timestamp": _timestamp,
}
