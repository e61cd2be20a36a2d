from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.api import ROUTES
from service.settings import VARIABLES, Settings
from tests.deploy.manifests import (
    KUBERNETES,
    MAKERS,
    OVERLAYS,
    ROOT,
    containers,
    named,
    of_kind,
    overlay,
)
from tests.kustomize import Manifest, identity, render

EVERY = [
    pytest.param(one, version, id=f"{name}-{'-'.join(identity(one))}-{version}")
    for name in OVERLAYS
    for one in overlay(name)
    for version in ("1.30.0", "1.37.0")  # the oldest with a preStop sleep, and the newest
]
EVERY_MAKER = [
    pytest.param(one, id=f"{name}-{one['metadata']['name']}")
    for name in OVERLAYS
    for one in of_kind(overlay(name), *MAKERS)
]


@pytest.mark.parametrize(("manifest", "version"), EVERY)
def test_a_manifest_has_the_fields_of_its_kind_and_no_others(
    manifest: Manifest, version: str
) -> None:
    assert kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl to compare with")
@pytest.mark.parametrize("name", OVERLAYS)
def test_we_render_what_kubectl_renders(name: str) -> None:
    folder = KUBERNETES / "overlays" / name
    told = subprocess.run(
        ["kubectl", "kustomize", str(folder)], stdout=subprocess.PIPE, check=True
    ).stdout

    theirs = sorted(yaml.safe_load_all(told), key=identity)

    assert sorted(render(folder), key=identity) == theirs


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_names_its_namespace_which_is_made_too(name: str) -> None:
    made = {one["metadata"]["name"] for one in of_kind(overlay(name), "Namespace")}

    assert {identity(one)[1] for one in overlay(name) if one["kind"] != "Namespace"} == made
    assert len({identity(one) for one in overlay(name)}) == len(overlay(name))


@pytest.mark.parametrize("name", OVERLAYS)
def test_namespaces_are_restricted(name: str) -> None:
    for namespace in of_kind(overlay(name), "Namespace"):
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("maker", EVERY_MAKER)
def test_pods_pass_podsecurity_restricted_and_write_to_volumes_only(maker: Manifest) -> None:
    pod = maker["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    kinds = {kind for volume in pod["volumes"] for kind in volume} - {"name"}
    assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
    for container in containers(maker):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


@pytest.mark.parametrize("maker", EVERY_MAKER)
def test_containers_have_pinned_images_and_bounded_resources(maker: Manifest) -> None:
    for container in containers(maker):
        assert re.search(r":v?\d+\.\d+(\.\d+)?$", container["image"]), container["image"]
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}


@pytest.mark.parametrize("maker", EVERY_MAKER)
def test_only_the_service_has_a_token_of_the_api_server(maker: Manifest) -> None:
    pod = maker["spec"]["template"]["spec"]

    assert pod["automountServiceAccountToken"] is (identity(maker)[0::2] == SERVICE)


SERVICE = ("Deployment", "epochlog")


@pytest.mark.parametrize("name", OVERLAYS)
def test_selectors_select_what_they_are_for(name: str) -> None:
    pods = {
        identity(one)[1:]: one["spec"]["template"]["metadata"]["labels"]
        for one in of_kind(overlay(name), *MAKERS)
    }
    for one in of_kind(
        overlay(name), "Service", "Deployment", "StatefulSet", "PodDisruptionBudget"
    ):
        selector = one["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        found = [which for which, labels in pods.items() if wanted.items() <= labels.items()]
        assert found == [identity(one)[1:]]


@pytest.mark.parametrize("name", OVERLAYS)
def test_two_replicas_are_spread_and_lost_one_at_a_time(name: str) -> None:
    service = named(overlay(name), "Deployment", "epochlog")["spec"]
    budget = named(overlay(name), "PodDisruptionBudget", "epochlog")["spec"]

    assert service["replicas"] == 2
    assert service["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert budget["maxUnavailable"] == 1
    for spread in service["template"]["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"] == service["selector"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_probes_ask_routes_that_are_open_at_the_port_that_is_served(name: str) -> None:
    service = named(overlay(name), "Deployment", "epochlog")["spec"]["template"]["spec"]
    [container] = service["containers"]
    [port] = container["ports"]

    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert {"/healthz", "/readyz", "/metrics"} <= {route.path for route in ROUTES}
    assert environment(name)["EPOCHLOG_PORT"] == str(port["containerPort"])
    assert container["livenessProbe"]["httpGet"]["port"] == port["name"]
    # A pod that has to be told of its end for 5 s still has time to end.
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert service["terminationGracePeriodSeconds"] >= pause + 30


@pytest.mark.parametrize("name", OVERLAYS)
def test_trainers_are_sent_to_the_service(name: str) -> None:
    service = named(overlay(name), "Service", "epochlog")
    [port] = service["spec"]["ports"]
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"

    assert environment(name)["EPOCHLOG_PUBLIC_URL"] == f"http://{host}:{port['port']}"
    assert (
        environment(name)["EPOCHLOG_KUBE_NAMESPACE"]
        == (named(overlay(name), "Role", "epochlog")["metadata"]["namespace"])
    )


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_the_service_understands_its_settings(name: str, kind: str) -> None:
    given = environment(name, kind)
    ours = {one for one in given if not one.startswith(("AWS_", "R2_"))}

    assert ours <= set(VARIABLES.values())
    assert given["EPOCHLOG_EXECUTOR"] == "kubernetes"
    settings = Settings.from_env(given)
    assert settings.unknown == ()
    assert settings.storage_type != "local"
    assert settings.archive_url.startswith("s3://")  # a folder would go with its pod


def environment(name: str, kind: str = "Deployment") -> dict[str, str]:
    """What the service finds in its environment; of the Secret, values as they might be."""
    made = overlay(name)
    which = {"Deployment": "epochlog", "Job": "epochlog-migrate"}[kind]
    [container] = containers(named(made, kind, which))
    assert container["envFrom"] == [{"configMapRef": {"name": "epochlog-settings"}}]
    settings: dict[str, str] = named(made, "ConfigMap", "epochlog-settings")["data"]
    return settings | {one["name"]: _secret(one["valueFrom"]) for one in container["env"]}


def _secret(value: dict[str, Any]) -> str:
    reference = value["secretKeyRef"]
    assert reference["name"] == "epochlog"
    key = reference["key"]
    return (
        "postgresql://user:password@host/name"
        if key.endswith("database-url")
        else key.ljust(32, "k")
    )


@pytest.mark.parametrize("name", OVERLAYS)
def test_service_and_migration_are_of_this_version(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = f"ghcr.io/yourorg/epochlog:v{project['version']}"

    for kind, which in (("Deployment", "epochlog"), ("Job", "epochlog-migrate")):
        [container] = containers(named(overlay(name), kind, which))
        assert container["image"] == wanted


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_secret_is_in_a_file(name: str) -> None:
    assert of_kind(overlay(name), "Secret") == []
