"""Where logs are read from, by which program, as the files of `deploy/` say it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from service.clusters import Cluster
from service.job_template import JobTemplate
from service.local import log_of_attempt
from service.settings import DEFAULT_TEMPLATE, TRAINER_IMAGE
from tests import alloy
from tests.deploy.manifests import ROOT, named, overlay
from tests.kustomize import Manifest
from tests.shipping import Entry, Stage, path_to_loki, public, relabelled, rules_of, ship
from tests.templates import launch

OBSERVABILITY = ROOT / "deploy" / "observability"
CLUSTER = ROOT / "deploy" / "kubernetes" / "logs"
READ_AT = datetime(2030, 1, 1, tzinfo=UTC)
Labels = Mapping[str, str]


def _nothing(_labels: Labels) -> Labels:
    return {}


@dataclass(frozen=True)
class Source:
    """One way of a line to Loki."""

    rules: Sequence[Mapping[str, Any]]
    stages: Sequence[Stage]
    added: Callable[[Labels], Labels] = _nothing
    written: Callable[[str], str] = str

    def labels(self, found: Labels) -> dict[str, str] | None:
        """Return the labels with which a target's lines enter the pipeline."""
        labels = relabelled(self.rules, found)
        return None if labels is None else {**public(labels), **self.added(labels)}

    def send(self, found: Labels, line: str) -> Entry:
        """Return what Loki is sent of a line of a target."""
        labels = self.labels(found)
        assert labels is not None
        return ship(self.stages, self.written(line), labels, READ_AT)


def scrape(path: Path, job_name: str) -> dict[str, Any]:
    """Return one part of a configuration of Promtail."""
    told = yaml.safe_load(path.read_text(encoding="utf-8"))
    [found] = [one for one in told["scrape_configs"] if one["job_name"] == job_name]
    return dict(found)


HERE = alloy.read(OBSERVABILITY / "alloy" / "config.alloy")
THERE = alloy.read(CLUSTER / "alloy" / "config.alloy")
CONTAINERS = scrape(OBSERVABILITY / "promtail.yml", "containers")
FILES = scrape(OBSERVABILITY / "promtail.yml", "local")
PODS = scrape(CLUSTER / "promtail" / "promtail.yml", "pods")


def _as_cri(line: str) -> str:
    return f"2030-01-01T00:00:00.123456789Z stdout F {line}"


def _of_a_file(labels: Labels) -> Labels:
    return {"filename": labels["__path__"]}


def _of_a_tail(labels: Labels) -> Labels:
    return {"job": "loki.source.kubernetes.pods", "instance": "namespace/pod:container"}


SOURCES = {
    "promtail-containers": Source(CONTAINERS["relabel_configs"], CONTAINERS["pipeline_stages"]),
    "promtail-files": Source((), FILES["pipeline_stages"], _of_a_file),
    "promtail-pods": Source(PODS["relabel_configs"], PODS["pipeline_stages"], _of_a_file, _as_cri),
    "alloy-containers": Source(
        rules_of(HERE["discovery.relabel.containers"]),
        path_to_loki(HERE, "loki.source.docker.containers"),
    ),
    "alloy-files": Source((), path_to_loki(HERE, "loki.source.file.attempts"), _of_a_file),
    "alloy-pods": Source(
        rules_of(THERE["discovery.relabel.pods"]),
        path_to_loki(THERE, "loki.source.kubernetes.pods"),
        _of_a_tail,
    ),
}


def trainer(source: str, job_id: int, attempt: int) -> Labels:
    """Return what is discovered of an attempt: its container, its file or its pod."""
    match source.partition("-")[2]:
        case "containers":
            return container("trainer", **{"job-id": str(job_id), "attempt": str(attempt)})
        case "files":
            path = log_of_attempt(Path("/epochlog"), job_id, attempt)
            return {"app": "trainer", "__path__": str(path)}
        case _:
            return pod_of_trainer(job_id, attempt)


def service(source: str) -> Labels:
    """Return what is discovered of the service."""
    if source.endswith("containers"):
        return container("service")
    made = named(overlay("production"), "Deployment", "epochlog")
    return pod(made, made["spec"]["template"], "ReplicaSet", "epochlog-7d9")


def container(compose_service: str, **labels: str) -> Labels:
    """Return what docker tells of a container of docker-compose.yml."""
    return _meta(
        "docker_container_label", {"com.docker.compose.service": compose_service, **labels}
    )


def pod_of_trainer(job_id: int, attempt: int) -> Labels:
    """Return what a cluster tells of the pod of an attempt, from the Job template on."""
    job = JobTemplate.load(DEFAULT_TEMPLATE).render(
        launch(job_id=job_id, attempt=attempt),
        cluster=Cluster(name="default", namespace="epochlog-training"),
        image=TRAINER_IMAGE,
        log_id="the-log",
    )
    return pod(job, job["spec"]["template"], "Job", job["metadata"]["name"])


def pod(maker: Manifest, template: Manifest, controller: str, name: str) -> Labels:
    """Return what a cluster tells of a pod."""
    [made] = template["spec"]["containers"]
    return {
        **_meta("kubernetes_pod_label", template["metadata"]["labels"]),
        **_meta(
            "kubernetes",
            {
                "namespace": maker["metadata"].get("namespace", "epochlog-training"),
                "pod_name": f"{name}-x7k2p",
                "pod_uid": "0199-uid",
                "pod_node_name": "node-1",
                "pod_container_name": made["name"],
                "pod_controller_kind": controller,
                "pod_controller_name": name,
            },
        ),
    }


def _meta(prefix: str, labels: Labels) -> dict[str, str]:
    """Name them as discovery does: a letter that a label's name may not have becomes a `_`."""
    named_so = {re.sub(r"\W", "_", name): text for name, text in labels.items()}
    return {f"__meta_{prefix}_{name}": text for name, text in named_so.items()}
