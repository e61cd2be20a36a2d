"""What is asked of Prometheus and Loki is something that they are told."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from service.executor import Contact
from service.external import ExternalExecutor
from service.local import log_of_attempt
from service.metrics import Metrics
from tests.compose import COMPOSE, SERVICES
from tests.deploy.manifests import ROOT, named, overlay

FOLDER = ROOT / "deploy" / "observability"
DASHBOARD = json.loads((FOLDER / "grafana" / "dashboards" / "epochlog.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def configuration(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return read


def expressions(source: str) -> list[str]:
    return [
        target["expr"]
        for panel in PANELS
        for target in panel["targets"]
        if target["datasource"]["uid"] == f"${{{source}}}"
    ]


class Nothing:
    """Stands for a part whose numbers are not asked for here."""

    def __getattr__(self, name: str) -> int:
        return 0

    def contacts(self) -> dict[str, Contact]:
        contact = Contact(heard_seconds_ago=0.0, problem=None, malformed=0, restarts=0)
        return {"one": contact}


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """Every sample that /metrics can tell, with its labels."""
    parts: dict[str, Any] = {name: Nothing() for name in inspect.signature(Metrics).parameters}
    parts["executor"] = ExternalExecutor()
    samples: dict[str, set[str]] = {}
    for collector in Metrics(**parts).registry._collector_to_names:
        for family in collector.collect():
            labels = set(getattr(collector, "_labelnames", ()))
            labels.update(*(sample.labels for sample in family.samples))
            for suffix in SUFFIXES[family.type]:
                samples[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return samples


SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def selectors(expression: str) -> Iterator[promql_parser.VectorSelector]:
    """Yield what a query looks for; the panel's interval is known only to Grafana."""
    found: list[promql_parser.VectorSelector] = []

    def look(part: promql_parser.Expr) -> None:
        if isinstance(part, promql_parser.VectorSelector):
            found.append(part)
        if isinstance(part, promql_parser.MatrixSelector):
            found.append(part.vector_selector)

    promql_parser.walk(promql_parser.parse(expression.replace("$__rate_interval", "1m")), look)
    yield from found


@pytest.mark.parametrize("expression", expressions("metrics"))
def test_a_query_names_metrics_and_labels_that_there_are(
    expression: str, known: dict[str, set[str]]
) -> None:
    asked = list(selectors(expression))

    assert asked
    for selector in asked:
        assert selector.name in known
        labels = {matcher.name for matcher in selector.matchers.matchers}
        assert labels <= known[selector.name]
    grouped = {
        label.strip()
        for group in re.findall(r"\bby \(([^)]*)\)", expression)
        for label in group.split(",")
    }
    assert grouped <= set().union(*(known[str(selector.name)] for selector in asked))


def test_the_dashboard_shows_what_an_operator_asks_first() -> None:
    asked = {str(one.name) for each in expressions("metrics") for one in selectors(each)}

    assert {
        "epochlog_jobs",
        "epochlog_events_appended_total",
        "epochlog_commit_seconds_bucket",
        "epochlog_queue_length",
        "epochlog_feed_lag",
    } <= asked
    assert '{job_id=~"$job_id"} |= "$text"' in expressions("logs")


def test_panels_do_not_overlap_and_use_the_variables_of_the_dashboard() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x + at["x"], y + at["y"]) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    used = set(re.findall(r"\$\{?(?!__)(\w+)", json.dumps(DASHBOARD)))
    assert used == {variable["name"] for variable in DASHBOARD["templating"]["list"]}


def test_a_query_of_logs_uses_labels_that_promtail_gives() -> None:
    given = set(re.findall(r"(\w+)", " ".join(promtail_labels())))
    for expression in expressions("logs"):
        [selector] = re.findall(r"^\{(.*?)\}", expression)
        assert set(re.findall(r"(\w+)=", selector)) <= given


def test_a_trainers_container_is_found_by_the_label_of_its_job() -> None:
    [scrape] = [
        one for one in configuration("promtail.yml")["scrape_configs"] if "docker_sd_configs" in one
    ]
    rules = {rule["target_label"]: rule["source_labels"] for rule in scrape["relabel_configs"]}
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")

    [label] = set(re.findall(r"docker compose run .*--label ([\w-]+)=", page))
    assert rules["job_id"] == [f"__meta_docker_container_label_{label.replace('-', '_')}"]
    assert "service" in SERVICES  # the value of `app` that the dashboard asks for
    assert rules["app"] == ["__meta_docker_container_label_com_docker_compose_service"]
    [filtered] = scrape["docker_sd_configs"][0]["filters"]
    assert filtered["values"] == [f"com.docker.compose.project={COMPOSE['name']}"]


def promtail_labels() -> Iterator[str]:
    for scrape in configuration("promtail.yml")["scrape_configs"]:
        yield from (rule["target_label"] for rule in scrape.get("relabel_configs", ()))
        yield from (label for one in scrape.get("static_configs", ()) for label in one["labels"])
        for stage in scrape["pipeline_stages"]:
            yield from stage.get("labels", ())


def test_the_logs_of_the_local_executor_are_found_by_job() -> None:
    [local] = [
        one for one in configuration("promtail.yml")["scrape_configs"] if one["job_name"] == "local"
    ]
    [mount] = [one for one in SERVICES["promtail"]["volumes"] if "local-logs" in one]
    path = log_of_attempt(Path(mount.split(":")[1]).parent, 7, 2)

    [static] = local["static_configs"]
    assert path.match(static["labels"]["__path__"])
    [rule] = [stage["regex"] for stage in local["pipeline_stages"] if "regex" in stage]
    found = re.search(rule["expression"], str(path))
    assert found is not None
    assert found.groupdict() == {"job_id": "7", "attempt": "2"}


def test_prometheus_asks_every_replica_at_the_port_of_the_service() -> None:
    [scrape] = configuration("prometheus.yml")["scrape_configs"]
    [found] = scrape["dns_sd_configs"]
    annotations = named(overlay("production"), "Deployment", "epochlog")["spec"]["template"][
        "metadata"
    ]["annotations"]

    assert found["names"] == ["service"]
    assert f":{found['port']}" in SERVICES["service"]["environment"]["EPOCHLOG_PUBLIC_URL"]
    assert annotations["prometheus.io/port"] == str(found["port"])
    assert annotations["prometheus.io/path"] == scrape.get("metrics_path", "/metrics")


def test_servers_are_started_with_the_files_that_are_mounted() -> None:
    for name in ("loki", "promtail", "prometheus"):
        told = re.findall(r"config\.file=(\S+)", " ".join(SERVICES[name]["command"]))
        assert told == [volume.split(":")[1] for volume in SERVICES[name]["volumes"][:1]]


def test_grafana_is_given_its_sources_and_its_dashboard() -> None:
    sources = configuration("grafana/provisioning/datasources/epochlog.yml")["datasources"]
    [provider] = configuration("grafana/provisioning/dashboards/epochlog.yml")["providers"]
    mounted = {volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]}

    assert {one["type"] for one in sources} == {"prometheus", "loki"}
    for source in sources:
        assert re.match(r"http://(\w+):", source["url"])[1] in SERVICES  # type: ignore[index]
    assert provider["options"]["path"] in mounted
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/epochlog.json"


def test_loki_keeps_its_data_on_its_volume() -> None:
    loki = configuration("loki.yml")
    [volume] = [one.split(":")[1] for one in SERVICES["loki"]["volumes"] if one.startswith("loki:")]

    assert loki["common"]["path_prefix"] == volume
    assert loki["server"]["http_listen_port"] == 3100
    assert configuration("promtail.yml")["clients"] == [
        {"url": "http://loki:3100/loki/api/v1/push"}
    ]
