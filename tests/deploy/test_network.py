from __future__ import annotations

import pytest

from tests.deploy.manifests import OVERLAYS, named, of_kind, overlay, trainer_labels
from tests.kustomize import Manifest
from tests.network_policy import OUTSIDE, Network, Pod

TRAINER = Pod("epochlog-training", trainer_labels())
SERVICE_PORT = 8080


def network(name: str) -> Network:
    made = overlay(name)
    labels = {
        one["metadata"]["name"]: one["metadata"]["labels"] for one in of_kind(made, "Namespace")
    }
    strangers = {"ingress": {"epochlog.dev/network": "api"}, "stranger": {}}
    return Network(of_kind(made, "NetworkPolicy"), labels | strangers)


def pod_of(name: str, kind: str, which: str) -> Pod:
    maker: Manifest = named(overlay(name), kind, which)
    return Pod(maker["metadata"]["namespace"], maker["spec"]["template"]["metadata"]["labels"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_trainers_reach_the_service_and_what_they_need_over_tls(name: str) -> None:
    here, service = network(name), pod_of(name, "Deployment", "epochlog")

    assert here.lets(TRAINER, service, SERVICE_PORT)
    assert here.lets(TRAINER, OUTSIDE, 443)
    assert here.lets(TRAINER, OUTSIDE, 53, "UDP")
    assert not here.lets(TRAINER, service, 22)
    assert not here.lets(TRAINER, OUTSIDE, 5432)
    assert not here.lets(service, TRAINER, SERVICE_PORT)


@pytest.mark.parametrize("name", OVERLAYS)
def test_trainers_of_another_namespace_reach_it_once_that_is_labelled(name: str) -> None:
    service, trainer = pod_of(name, "Deployment", "epochlog"), Pod("team-b", trainer_labels())
    here = network(name)
    labelled = Network(
        here.policies, {**here.namespaces, "team-b": {"epochlog.dev/network": "trainers"}}
    )

    assert not here.lets(trainer, service, SERVICE_PORT)
    assert labelled.lets(trainer, service, SERVICE_PORT)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_service_is_reached_from_the_ingress_and_by_nobody_else(name: str) -> None:
    here, service = network(name), pod_of(name, "Deployment", "epochlog")

    assert here.lets(Pod("ingress"), service, SERVICE_PORT)
    assert here.lets(service, service, SERVICE_PORT)  # kubectl exec … epochlog jobs
    assert not here.lets(Pod("stranger"), service, SERVICE_PORT)
    assert not here.lets(Pod("stranger", TRAINER.labels), service, SERVICE_PORT)
    assert not here.lets(Pod("epochlog-training", {"app": "other"}), service, SERVICE_PORT)
    assert not here.lets(OUTSIDE, service, SERVICE_PORT)


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("port", [443, 5432, 6443])
def test_the_service_reaches_api_servers_and_database(name: str, port: int) -> None:
    assert network(name).lets(pod_of(name, "Deployment", "epochlog"), OUTSIDE, port)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_migration_reaches_the_database_only(name: str) -> None:
    here, migration = network(name), pod_of(name, "Job", "epochlog-migrate")

    assert here.lets(migration, OUTSIDE, 5432)
    assert not here.lets(migration, OUTSIDE, 443)


def test_on_one_machine_each_reaches_its_own_server() -> None:
    here = network("local")
    service = pod_of("local", "Deployment", "epochlog")
    migration = pod_of("local", "Job", "epochlog-migrate")
    postgres = pod_of("local", "StatefulSet", "postgres")
    objects = pod_of("local", "Deployment", "object-store")

    assert here.lets(service, postgres, 5432)
    assert here.lets(migration, postgres, 5432)
    assert here.lets(TRAINER, objects, 9000)
    assert not here.lets(TRAINER, postgres, 5432)
    assert here.lets(service, objects, 9000)
    assert not here.lets(migration, objects, 9000)
    assert not here.lets(Pod("ingress"), postgres, 5432)
