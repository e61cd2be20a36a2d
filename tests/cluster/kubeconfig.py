"""A kubeconfig file, by which a client or the service finds one or more of these clusters."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cluster.cluster import Cluster


def write_kubeconfig(path: Path, *, token: str | None = None, **clusters: Cluster) -> Path:
    """Write one context for each cluster, by its keyword's name; the first is the current one.

    `token` is sent to all of them; each cluster's administrator's where there is none.
    """
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(clusters)),
        "clusters": [
            {"name": name, "cluster": {"server": one.url}} for name, one in clusters.items()
        ],
        "users": [
            {"name": name, "user": {"token": token or one.token}} for name, one in clusters.items()
        ],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": one.namespace}}
            for name, one in clusters.items()
        ],
    }
    path.write_text(json.dumps(config))
    return path
