"""The objects, one growing resourceVersion, indexes, and a bounded history of changes."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import takewhile

import orjson

from tests.cluster.objects import (
    KEPT,
    Clock,
    Object,
    Resource,
    copied,
    name_of,
    namespace_of,
    new_uid,
    owners_of,
    real_time,
    stamp,
)
from tests.cluster.refusals import already_exists, not_found
from tests.cluster.selectors import Selector

Key = tuple[str, str]
Index = tuple[str, ...]


@dataclass(slots=True, eq=False)
class Entry:
    """One version of one object; its bytes are made once, for every list and watch."""

    resource: Resource
    body: Object
    _json: bytes | None = None

    @property
    def json(self) -> bytes:
        """The object without kind and apiVersion, as the items of a list are."""
        if self._json is None:
            self._json = orjson.dumps(self.body)
        return self._json

    @property
    def whole(self) -> bytes:
        head = f'{{"kind":"{self.resource.kind}","apiVersion":"{self.resource.api_version}",'
        return head.encode() + self.json[1:]


@dataclass(slots=True, eq=False)
class Change:
    """One write, as watchers are told of it."""

    version: int
    type: str
    entry: Entry
    before: Object | None
    _lines: dict[str, bytes] = field(default_factory=dict)

    def line(self, type_: str) -> bytes:
        """The watch event of that type, made once for all watchers."""
        if type_ not in self._lines:
            self._lines[type_] = (
                f'{{"type":"{type_}","object":'.encode() + self.entry.whole + b"}\n"
            )
        return self._lines[type_]


Listener = Callable[[Change], None]


class Store:
    """Every write goes through here and is seen by all who listen, in one order."""

    def __init__(self, *, history: int = 5000, clock: Clock = real_time) -> None:
        self.clock = clock
        self.version = 2500
        self.listeners: list[Listener] = []
        self._length = history
        self._entries: dict[Resource, dict[Key, Entry]] = {kind: {} for kind in KEPT}
        self._index: dict[tuple[Resource, Index], dict[Key, None]] = defaultdict(dict)
        self._uids: dict[str, tuple[Resource, Key]] = {}
        self._history: dict[Resource, deque[Change]] = {kind: deque() for kind in KEPT}
        # Watches from a version below this are told 410.
        self._oldest: dict[Resource, int] = dict.fromkeys(KEPT, self.version)

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        entry = self._entries[resource].get((namespace, name))
        return None if entry is None else entry.body

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        return self.entry(resource, namespace, name).body

    def entry(self, resource: Resource, namespace: str, name: str) -> Entry:
        entry = self._entries[resource].get((namespace, name))
        if entry is None:
            raise not_found(resource, name)
        return entry

    def by_uid(self, uid: str) -> Object | None:
        """The object of that UID, if it is still there."""
        place = self._uids.get(uid)
        return None if place is None else self.find(place[0], *place[1])

    def owned(self, uid: str, resource: Resource) -> list[Object]:
        """The objects of a kind that name this owner, oldest first."""
        keys = self._index.get((resource, ("owner", uid)), ())
        return [self._entries[resource][key].body for key in keys]

    def select(
        self, resource: Resource, namespace: str | None, selector: Selector
    ) -> list[tuple[Key, Entry]]:
        """What matches, in the order of a list."""
        entries = self._entries[resource]
        keys: Iterable[Key] = entries
        if selector.index is not None:
            keys = self._index.get((resource, selector.index), ())
        return sorted(
            (key, entries[key])
            for key in keys
            if (namespace is None or key[0] == namespace) and selector.matches(entries[key].body)
        )

    def create(self, resource: Resource, body: Object) -> Entry:
        """Keep a new object; gives it UID, version and time of creation."""
        key = (namespace_of(body), name_of(body))
        if key in self._entries[resource]:
            raise already_exists(resource, key[1])
        body = prepared(body, self.clock)
        return self._write("ADDED", resource, key, body, None)

    def update(
        self, resource: Resource, namespace: str, name: str, change: Callable[[Object], None]
    ) -> Entry:
        """Change a copy and keep it; nothing is written where nothing changed."""
        entry = self.entry(resource, namespace, name)
        body = copied(entry.body)
        change(body)
        if body == entry.body:
            return entry
        return self._write("MODIFIED", resource, (namespace, name), body, entry.body)

    def remove(self, resource: Resource, namespace: str, name: str) -> Entry:
        """Take an object away; its last state goes out with the DELETED event."""
        entry = self.entry(resource, namespace, name)
        return self._write("DELETED", resource, (namespace, name), copied(entry.body), entry.body)

    def since(self, resource: Resource, version: int) -> list[Change] | None:
        """The changes after a version; None where they are no longer known."""
        if version < self._oldest[resource]:
            return None
        newest_first = reversed(self._history[resource])
        return list(takewhile(lambda change: change.version > version, newest_first))[::-1]

    def oldest(self, resource: Resource) -> int:
        return self._oldest[resource]

    def forget_history(self) -> None:
        """Make every resourceVersion given so far too old to watch from."""
        for resource in KEPT:
            self._history[resource].clear()
            self.version += 1
            self._oldest[resource] = self.version

    def go_back(self, version: int = 100) -> None:
        """Number everything anew from a small version, as an etcd restored from a backup."""
        self.version = version
        for resource, entries in self._entries.items():
            self._history[resource].clear()
            self._oldest[resource] = version
            for entry in entries.values():
                self.version += 1
                entry.body = copied(entry.body)
                entry.body["metadata"]["resourceVersion"] = str(self.version)
                entry._json = None

    def _write(
        self, type_: str, resource: Resource, key: Key, body: Object, before: Object | None
    ) -> Entry:
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        entry = Entry(resource, body)
        if before is not None:
            self._unfile(resource, key, before)
        if type_ == "DELETED":
            del self._entries[resource][key]
        else:
            self._entries[resource][key] = entry
            self._file(resource, key, body)
        change = Change(self.version, type_, entry, before)
        self._remember(resource, change)
        for listener in list(self.listeners):
            listener(change)
        return entry

    def _remember(self, resource: Resource, change: Change) -> None:
        history = self._history[resource]
        history.append(change)
        if len(history) > self._length:
            self._oldest[resource] = history.popleft().version

    def _file(self, resource: Resource, key: Key, body: Object) -> None:
        self._uids[body["metadata"]["uid"]] = (resource, key)
        for index in _indexes(body):
            self._index[resource, index][key] = None

    def _unfile(self, resource: Resource, key: Key, body: Object) -> None:
        self._uids.pop(body["metadata"]["uid"], None)
        for index in _indexes(body):
            keys = self._index[resource, index]
            keys.pop(key, None)
            if not keys:
                del self._index[resource, index]


def prepared(body: Object, clock: Clock) -> Object:
    """The object with what the server adds to each new one, its metadata in the server's order."""
    given = dict(body["metadata"])
    for ours in ("uid", "resourceVersion", "creationTimestamp", "generation", "selfLink"):
        given.pop(ours, None)
    metadata = {
        **{
            name: given.pop(name) for name in ("name", "generateName", "namespace") if name in given
        },
        "uid": body["metadata"].get("uid") or new_uid(),
        "resourceVersion": "",
        "generation": 1,
        "creationTimestamp": stamp(clock()),
        **given,
    }
    if "status" not in body:  # Secrets and Events have no generation
        del metadata["generation"]
    kept = {name: part for name, part in body.items() if name not in ("kind", "apiVersion")}
    return {**kept, "metadata": metadata}


def _indexes(body: Object) -> list[Index]:
    labels = body["metadata"].get("labels") or {}
    found: list[Index] = [("label", name, value) for name, value in labels.items()]
    found.extend(("owner", owner["uid"]) for owner in owners_of(body))
    if "involvedObject" in body:
        found.append(("involved", body["involvedObject"].get("uid", "")))
    return found
