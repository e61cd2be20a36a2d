"""The service may do what docs/kubernetes.md says, and nothing else."""

from __future__ import annotations

import re

import pytest

from tests.deploy.manifests import OVERLAYS, ROOT, named, of_kind, overlay

PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
RIGHTS = {
    "batch/jobs": {"create", "get", "list", "watch", "delete"},
    "pods": {"get", "list", "watch"},
    "pods/log": {"get"},
    "events": {"list"},
    "secrets": {"create", "delete"},
}


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_role_is_these_verbs_and_no_other(name: str) -> None:
    [role] = of_kind(overlay(name), "Role")

    granted: dict[str, set[str]] = {}
    for rule in role["rules"]:
        assert set(rule) == {"apiGroups", "resources", "verbs"}
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                full = f"{group}/{resource}" if group else resource
                granted.setdefault(full, set()).update(rule["verbs"])

    assert granted == RIGHTS


@pytest.mark.parametrize("name", OVERLAYS)
def test_it_is_given_to_the_service_in_one_namespace_and_nothing_is_cluster_wide(name: str) -> None:
    made = overlay(name)
    [binding] = of_kind(made, "RoleBinding")
    role = named(made, "Role", "epochlog")
    service = named(made, "Deployment", "epochlog")
    account = named(
        made, "ServiceAccount", service["spec"]["template"]["spec"]["serviceAccountName"]
    )

    assert of_kind(made, "ClusterRole", "ClusterRoleBinding") == []
    assert binding["metadata"]["namespace"] == role["metadata"]["namespace"]
    assert binding["metadata"]["namespace"] != service["metadata"]["namespace"]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("Role", "epochlog")
    assert binding["subjects"] == [
        {
            "kind": "ServiceAccount",
            "name": account["metadata"]["name"],
            "namespace": account["metadata"]["namespace"],
        }
    ]


def test_the_page_says_of_each_verb_what_it_is_for() -> None:
    table = re.findall(r"^\| `([a-z/]+)` \| `([a-z]+)` \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)

    assert {(resource, verb) for resource, verb, _, _ in table} == {
        (resource, verb) for resource, verbs in RIGHTS.items() for verb in verbs
    }
