"""What ships logs in a cluster: it may read pods and their logs, and reaches Loki."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests import alloy
from tests.alloy import Block, Call, references
from tests.compose import SERVICES
from tests.deploy.manifests import ROOT, containers, named, of_kind, overlay
from tests.deploy.sources import CLUSTER, HERE, THERE
from tests.kustomize import Manifest, identity, render
from tests.network_policy import OUTSIDE, Network, Pod

SHIPPERS = {name: render(CLUSTER / name) for name in ("alloy", "promtail")}
MAKER = {"alloy": "Deployment", "promtail": "DaemonSet"}
PAGE = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
EVERY = [
    pytest.param(one, version, id=f"{name}-{'-'.join(identity(one))}-{version}")
    for name, manifests in SHIPPERS.items()
    for one in manifests
    for version in ("1.30.0", "1.37.0")
]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl to compare with")
@pytest.mark.parametrize("name", SHIPPERS)
def test_we_render_what_kubectl_renders(name: str) -> None:
    told = subprocess.run(
        ["kubectl", "kustomize", str(CLUSTER / name)], stdout=subprocess.PIPE, check=True
    ).stdout

    theirs = sorted(yaml.safe_load_all(told), key=identity)
    assert sorted(SHIPPERS[name], key=identity) == theirs


def maker(name: str) -> Manifest:
    return named(SHIPPERS[name], MAKER[name], name)


def pod_of(name: str) -> dict[str, Any]:
    return dict(maker(name)["spec"]["template"]["spec"])


@pytest.mark.parametrize(("manifest", "version"), EVERY)
def test_a_manifest_has_the_fields_of_its_kind_and_no_others(
    manifest: Manifest, version: str
) -> None:
    assert kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("name", SHIPPERS)
def test_it_may_read_what_it_needs_where_trainings_and_the_service_are(name: str) -> None:
    made = SHIPPERS[name]
    granted: dict[str, dict[str, set[str]]] = {}
    for role in of_kind(made, "Role"):
        for rule in role["rules"]:
            assert rule["apiGroups"] == [""]
            here = granted.setdefault(role["metadata"]["namespace"], {})
            here.update({resource: set(rule["verbs"]) for resource in rule["resources"]})

    rights = {"pods": {"get", "list", "watch"}}
    if name == "alloy":
        rights["pods/log"] = {"get"}
    service = named(overlay("production"), "Deployment", "epochlog")
    trainings = named(overlay("production"), "Role", "epochlog")
    where = {one["metadata"]["namespace"] for one in (service, trainings)}
    assert granted == dict.fromkeys(where, rights)
    assert of_kind(made, "ClusterRole", "ClusterRoleBinding") == []


@pytest.mark.parametrize("name", SHIPPERS)
def test_the_rights_are_given_to_its_own_account(name: str) -> None:
    made = SHIPPERS[name]
    [account] = of_kind(made, "ServiceAccount")
    bindings = of_kind(made, "RoleBinding")

    assert pod_of(name)["serviceAccountName"] == account["metadata"]["name"]
    assert {identity(one)[1:] for one in bindings} == {
        identity(one)[1:] for one in of_kind(made, "Role")
    }
    for binding in bindings:
        assert binding["roleRef"]["name"] == binding["metadata"]["name"]
        [subject] = binding["subjects"]
        assert (subject["name"], subject["namespace"]) == identity(account)[:0:-1]


@pytest.mark.parametrize("name", SHIPPERS)
def test_it_reads_the_namespaces_in_which_it_may(name: str) -> None:
    if name == "alloy":
        [block] = THERE["discovery.kubernetes.pods"].named("namespaces")
        names = block.attributes["names"]
    else:
        [scrape] = promtail()["scrape_configs"]
        names = scrape["kubernetes_sd_configs"][0]["namespaces"]["names"]

    assert {one["metadata"]["namespace"] for one in of_kind(SHIPPERS[name], "Role")} == set(names)


def promtail() -> dict[str, Any]:
    [told] = of_kind(SHIPPERS["promtail"], "ConfigMap")
    return dict(yaml.safe_load(told["data"]["promtail.yml"]))


def test_alloy_passes_podsecurity_restricted() -> None:
    [namespace] = of_kind(SHIPPERS["alloy"], "Namespace")
    pod = pod_of("alloy")

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    kinds = {kind for volume in pod["volumes"] for kind in volume} - {"name"}
    assert kinds == {"configMap", "emptyDir"}


def test_promtail_sees_two_folders_of_its_node_and_changes_one() -> None:
    pod = pod_of("promtail")
    [container] = pod["containers"]
    folders = {one["name"]: one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one}
    mounts = {one["name"]: one for one in container["volumeMounts"]}

    assert folders == {"positions": "/run/promtail", "pods": "/var/log/pods"}
    assert all(mounts[name]["mountPath"] == path for name, path in folders.items())
    assert mounts["pods"]["readOnly"] is True
    assert promtail()["positions"]["filename"].startswith(f"{folders['positions']}/")
    [client] = promtail()["clients"]
    assert client["basic_auth"]["password_file"] == f"{mounts['loki']['mountPath']}/password"
    # Which pods are a node's own is told by this name.
    [hostname] = container["env"]
    assert hostname["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}


@pytest.mark.parametrize("name", SHIPPERS)
def test_a_pod_changes_nothing_of_its_own_and_has_bounds(name: str) -> None:
    pod = pod_of(name)
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for container in containers(maker(name)):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}
        assert container["image"] == SERVICES[name]["image"]


@pytest.mark.parametrize("name", SHIPPERS)
def test_it_is_started_with_its_configuration(name: str) -> None:
    pod = pod_of(name)
    [container] = pod["containers"]
    [config] = of_kind(SHIPPERS[name], "ConfigMap")
    [volume] = [one for one in pod["volumes"] if "configMap" in one]
    [mount] = [one for one in container["volumeMounts"] if one["name"] == volume["name"]]
    [file] = config["data"]

    assert volume["configMap"]["name"] == config["metadata"]["name"]
    assert any(f"{mount['mountPath']}/{file}" in word for word in container["args"])
    assert container["readinessProbe"]["httpGet"]["port"] == container["ports"][0]["name"]
    selector = maker(name)["spec"]["selector"]["matchLabels"]
    assert selector.items() <= maker(name)["spec"]["template"]["metadata"]["labels"].items()


def test_promtail_listens_where_it_is_asked_whether_it_is_ready() -> None:
    [container] = pod_of("promtail")["containers"]

    assert container["ports"][0]["containerPort"] == promtail()["server"]["http_listen_port"]


def test_alloy_listens_where_it_is_asked_whether_it_is_ready() -> None:
    [container] = pod_of("alloy")["containers"]

    port = container["ports"][0]["containerPort"]
    assert f"--server.http.listen-addr=0.0.0.0:{port}" in container["args"]


def test_alloy_knows_loki_from_its_environment() -> None:
    [container] = pod_of("alloy")["containers"]
    given = {one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"]}
    [endpoint] = THERE["loki.write.loki"].named("endpoint")

    asked = [endpoint.attributes["url"]]
    [login] = endpoint.named("basic_auth")
    asked += login.attributes.values()
    assert asked == [Call("sys.env", (name,)) for name in given]
    assert {one["name"] for one in given.values()} == {"loki"}


@pytest.mark.parametrize("name", SHIPPERS)
def test_the_page_makes_the_keys_of_the_secret_that_are_needed(name: str) -> None:
    made = {
        word.split("=")[1]
        for before, command in pairwise(COMMANDS)
        if command[1:5] == ["create", "secret", "generic", "loki"] and f"logs/{name}/" in before[-1]
        for word in command
        if word.startswith("--from-literal")
    }

    needed = {"alloy": {"url", "username", "password"}, "promtail": {"password"}}
    assert made == needed[name]


def test_the_page_names_files_and_objects_that_there_are() -> None:
    paths = re.findall(r"(?:\.\./)?(deploy/[\w./-]+)", PAGE)
    assert paths
    for path in paths:
        assert (ROOT / path.rstrip(".")).exists(), path
    assert f"deployment/{maker('alloy')['metadata']['name']}" in PAGE
    profile = SERVICES["alloy"]["profiles"]
    assert f"--profile {profile[0]} up --scale promtail=0" in PAGE


@pytest.mark.parametrize("name", SHIPPERS)
def test_it_reaches_the_api_server_and_loki_and_nobody_reaches_it(name: str) -> None:
    made = SHIPPERS[name]
    labels = {
        one["metadata"]["name"]: one["metadata"]["labels"] for one in of_kind(made, "Namespace")
    }
    network = Network(of_kind(made, "NetworkPolicy"), {**labels, "loki": {}})
    shipper = Pod("epochlog-logs", maker(name)["spec"]["template"]["metadata"]["labels"])

    assert network.lets(shipper, OUTSIDE, 443)
    assert network.lets(shipper, OUTSIDE, 6443)
    assert network.lets(shipper, Pod("loki"), 3100)
    assert network.lets(shipper, OUTSIDE, 53, "UDP")
    assert not network.lets(shipper, OUTSIDE, 5432)
    assert not network.lets(Pod("loki"), shipper, 12345)


EXPORTS = {"targets", "output", "receiver"}


@pytest.mark.parametrize("components", [HERE, THERE], ids=["here", "cluster"])
def test_whatever_alloy_refers_to_is_there(components: dict[str, Block]) -> None:
    asked = {path for component in components.values() for path in references(component)}

    assert asked
    for path in asked:
        component, export = path.rsplit(".", 1)
        assert component in components
        assert export in EXPORTS
    used = {path.rsplit(".", 1)[0] for path in asked}
    sources = {path for path in components if path.startswith("loki.source.")}
    assert used | sources == set(components), "what nobody refers to does nothing"


@pytest.mark.parametrize(
    "text",
    [
        'a "b" {\n  c = [\n    "d",\n    "e"\n  ]\n}\n',
        'a "b" {\n  c = "\\d"\n}\n',
        'a "b" {\n  c = 1 d = 2\n}\n',
        'a "b" {\n  c = 1\n  c = 2\n}\n',
        'a "b" {\n  c.d = 1\n}\n',
        'a "b" {\n  c = {"d": 1}\n}\n',
        'a "b" {\n',
        'a "b" {\n}\na "b" {\n}\n',
    ],
    ids=[
        "no comma", "escape", "one line", "twice", "dotted", "colon", "open", "same name",
    ],
)  # fmt: skip
def test_what_alloy_would_refuse_is_refused(text: str, tmp_path: Any) -> None:
    file = tmp_path / "config.alloy"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(AssertionError):
        alloy.read(file)


def test_alloy_on_this_machine_is_given_what_promtail_is_given() -> None:
    ours, theirs = SERVICES["promtail"], SERVICES["alloy"]

    assert ours["volumes"][1:3] == theirs["volumes"][1:3]
    file, inside, _ = theirs["volumes"][0].split(":")
    assert (ROOT / file).read_text("utf-8")
    assert inside in theirs["command"]
    [endpoint] = HERE["loki.write.loki"].named("endpoint")
    assert endpoint.attributes == {"url": "http://loki:3100/loki/api/v1/push"}
