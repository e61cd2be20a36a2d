"""Whether network policies let one pod reach another, by the rules of Kubernetes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Manifest = dict[str, Any]
Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Pod:
    """An end of a connection."""

    namespace: str
    labels: Labels = field(default_factory=dict)


OUTSIDE = Pod("")
"""Whatever is no pod of this cluster: selectors never find it."""


@dataclass(frozen=True, slots=True)
class Network:
    """The policies of a cluster and the labels of its namespaces."""

    policies: list[Manifest]
    namespaces: Mapping[str, Labels]

    def lets(self, source: Pod, target: Pod, port: int, protocol: str = "TCP") -> bool:
        """Say whether a connection is let out at one end and in at the other."""
        return self._open(source, target, "Egress", "to", (port, protocol)) and self._open(
            target, source, "Ingress", "from", (port, protocol)
        )

    def _open(self, pod: Pod, other: Pod, direction: str, peers: str, to: tuple[int, str]) -> bool:
        policies = list(self._policies_of(pod, direction))
        rules = [rule for one in policies for rule in one.get(direction.lower(), ())]
        return not policies or any(
            _has_port(rule, to) and self._has_peer(rule.get(peers), other, pod.namespace)
            for rule in rules
        )

    def _policies_of(self, pod: Pod, direction: str) -> Iterator[Manifest]:
        for policy in self.policies:
            spec = policy["spec"]
            here = policy["metadata"]["namespace"] == pod.namespace
            if here and direction in spec["policyTypes"] and _fits(spec["podSelector"], pod.labels):
                yield spec

    def _has_peer(self, peers: list[Manifest] | None, pod: Pod, namespace: str) -> bool:
        return peers is None or any(self._is_peer(peer, pod, namespace) for peer in peers)

    def _is_peer(self, peer: Manifest, pod: Pod, namespace: str) -> bool:
        assert set(peer) <= {"podSelector", "namespaceSelector"}, peer
        if pod is OUTSIDE or not _fits(peer.get("podSelector", {}), pod.labels):
            return False
        if "namespaceSelector" not in peer:
            return pod.namespace == namespace
        labels = self.namespaces.get(pod.namespace, {})
        known = {"kubernetes.io/metadata.name": pod.namespace, **labels}
        return _fits(peer["namespaceSelector"], known)


def _fits(selector: Manifest, labels: Labels) -> bool:
    assert set(selector) <= {"matchLabels"}, selector
    wanted: Labels = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()


def _has_port(rule: Manifest, to: tuple[int, str]) -> bool:
    return "ports" not in rule or any((one["port"], one["protocol"]) == to for one in rule["ports"])
