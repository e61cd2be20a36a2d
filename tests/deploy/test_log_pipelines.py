"""Our lines, through the stages of our own configurations, to what Loki is asked for."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import pytest

from tests.deploy.manifests import ROOT, named, overlay
from tests.deploy.sources import (
    CONTAINERS,
    FILES,
    HERE,
    PODS,
    SOURCES,
    THERE,
    container,
    pod,
    pod_of_trainer,
    service,
    trainer,
)
from tests.logql import selects
from tests.shipping import Entry, Stage, public, relabelled, rules_of
from trainer.log_lines import LogFormat, Origin, Record, lines_of
from trainer.stamper import RecordFormatter, Stamper

PAGE = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
TRACE = "abc-def"
LABELS = {
    "containers": {"app", "job_id", "attempt", "level"},
    "files": {"app", "job_id", "attempt", "level"},
    "pods": {"app", "job_id", "attempt", "level", "namespace", "pod", "container", "stream", "job"},
}


@dataclass(frozen=True)
class Line:
    """A line of ours, and what is to be known of it."""

    text: str
    level: str
    epoch: int | None = None

    @property
    def time(self) -> datetime:
        found = re.search(r"\d{4}-\d\d-\d\dT[\d:.]+Z", self.text)
        assert found
        return datetime.fromisoformat(found[0])


def logged(message: str, level: int = logging.INFO, **more: Any) -> bytes:
    logger = logging.getLogger("trainer.test")
    exc_info = more.pop("exc_info", None)
    record = logger.makeRecord(logger.name, level, "", 0, message, (), exc_info, extra=more)
    return f"{RecordFormatter().format(record)}\n".encode()


def broken() -> Any:
    try:
        int("no number")
    except ValueError:
        return sys.exc_info()


WRITTEN: tuple[tuple[bytes, str, int | None], ...] = (
    (logged("phase: train"), "info", None),
    (logged("epoch 3 of 5 begins", epoch_begins=3), "info", 3),
    (b"a library prints\n", "info", 3),
    (b"[W1123 01:02:03.4 socket.cpp:12] native code warns\n", "warning", 3),
    (logged("it failed", logging.ERROR, exc_info=broken()), "error", 3),
    (logged('{"level": "debug", "job_id": 999}', epoch_ends=3), "info", 3),
    (b'{"level": "debug", "job_id": 999, "timestamp": "2001-01-01T00:00:00Z"}\n', "info", None),
)


def lines_of_trainer(log_format: LogFormat, job_id: int, trace_id: str, attempt: int) -> list[Line]:
    origin = Origin(trace_id=trace_id, job_id=job_id, attempt=attempt)
    stamper = Stamper(origin, log_format)
    return [
        Line(text, level, epoch)
        for written, level, epoch in WRITTEN
        for text in stamper.feed(written)
    ]


SERVICE_SAYS = f"""
import logging
import structlog
from service.logs import about, configure_logs

configure_logs("INFO")
log = structlog.get_logger("ours")
log.info("serving", url="http://127.0.0.1:8080")
log.info("recorded", job_id=123, trace_id="{TRACE}")
log.warning("recorded", job_id=124, trace_id="other")
with about(123, "{TRACE}"):
    logging.getLogger("asyncio").error("a library's words")
"""


@pytest.fixture(scope="module")
def lines_of_service() -> list[Line]:
    done = subprocess.run(
        [sys.executable, "-c", SERVICE_SAYS], capture_output=True, text=True, check=True
    )
    return [Line(text, json.loads(text)["level"]) for text in done.stderr.splitlines()]


def place(source: str) -> str:
    return source.partition("-")[2]


@pytest.mark.parametrize("log_format", LogFormat)
@pytest.mark.parametrize("source", SOURCES)
def test_a_trainers_line_has_its_job_its_level_its_epoch_and_its_own_time(
    source: str, log_format: LogFormat
) -> None:
    found = trainer(source, 123, 2)

    for line in lines_of_trainer(log_format, 123, TRACE, 2):
        sent = SOURCES[source].send(found, line.text)

        assert sent.line == line.text
        assert sent.time == line.time
        assert (sent.labels["app"], sent.labels["job_id"]) == ("trainer", "123")
        assert (sent.labels["attempt"], sent.labels["level"]) == ("2", line.level)
        assert sent.metadata == ({} if line.epoch is None else {"epoch": str(line.epoch)})
        assert set(sent.labels) <= LABELS[place(source)], "each further label makes more streams"


@pytest.mark.parametrize("source", [one for one in SOURCES if place(one) != "files"])
def test_what_the_service_says_of_a_job_is_found_with_it(
    source: str, lines_of_service: list[Line]
) -> None:
    sent = [SOURCES[source].send(service(source), line.text) for line in lines_of_service]

    assert [one.labels.get("job_id") for one in sent] == [None, "123", "124", "123"]
    assert [one.labels["level"] for one in sent] == ["info", "info", "warning", "error"]
    assert [one.time for one in sent] == [line.time for line in lines_of_service]
    assert {one.labels["app"] for one in sent} == {"service"}
    assert all(set(one.labels) <= LABELS[place(source)] for one in sent)


def everything(source: str, log_format: LogFormat, said: list[Line]) -> Iterator[Entry]:
    """What Loki gets of two jobs and the service."""
    for job_id, trace_id in ((123, TRACE), (124, "other")):
        found = trainer(source, job_id, 1)
        for line in lines_of_trainer(log_format, job_id, trace_id, 1):
            yield SOURCES[source].send(found, line.text)
    if place(source) != "files":
        yield from (SOURCES[source].send(service(source), line.text) for line in said)


def found_by(query: str, sent: list[Entry]) -> list[str]:
    return [one.line for one in sent if selects(query, one.labels, one.line, one.metadata)]


@pytest.mark.parametrize("log_format", LogFormat)
@pytest.mark.parametrize("source", SOURCES)
def test_a_job_is_found_by_its_trace(
    source: str, log_format: LogFormat, lines_of_service: list[Line]
) -> None:
    sent = list(everything(source, log_format, lines_of_service))

    found = found_by('{job_id="123"} |= "TRACE:abc-def"', sent)

    wanted = [one.line for one in sent if f"[TRACE:{TRACE}]" in one.line]
    assert found == wanted
    assert len(found) == len(found_by('{job_id="123"}', sent)) >= len(WRITTEN)
    assert found_by('{job_id="124"} |= "TRACE:abc-def"', sent) == []


@pytest.mark.parametrize("log_format", LogFormat)
@pytest.mark.parametrize("source", SOURCES)
def test_each_query_of_the_page_finds_something_and_not_everything(
    source: str, log_format: LogFormat, lines_of_service: list[Line]
) -> None:
    [block] = re.findall(r"^```logql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    queries = [line for line in block.splitlines() if line and not line.startswith("#")]
    sent = list(everything(source, log_format, lines_of_service))

    assert len(queries) > 3
    for query in queries:
        if place(source) != "files" or 'app="service"' not in query:
            assert 0 < len(found_by(query, sent)) < len(sent), query


@pytest.mark.parametrize("log_format", LogFormat)
def test_the_page_shows_a_line_as_it_is(log_format: LogFormat) -> None:
    record = Record(
        moment="2026-11-23T01:02:03.456789Z",
        level="INFO",
        logger="trainer.recorder",
        message="epoch 3 of 5 begins",
    )

    [line] = lines_of(record, 3, Origin(trace_id=TRACE, job_id=123, attempt=1), log_format)

    assert line in PAGE.splitlines()


@pytest.mark.parametrize("source", [one for one in SOURCES if place(one) == "containers"])
def test_of_the_lines_of_other_containers_nothing_is_read(source: str) -> None:
    line = '{"level": "fatal", "job_id": 123, "timestamp": "2001-01-01T00:00:00Z", "epoch": 1}'

    sent = SOURCES[source].send(container("mlflow"), line)

    assert sent.labels == {"app": "mlflow"}
    assert sent.time.year == 2030
    assert sent.metadata == {}


@pytest.mark.parametrize("source", [one for one in SOURCES if place(one) == "pods"])
def test_only_our_pods_are_read(source: str) -> None:
    migration = named(overlay("production"), "Job", "epochlog-migrate")
    postgres = named(overlay("local"), "StatefulSet", "postgres")
    rules = SOURCES[source].rules

    kept = relabelled(
        rules, pod(migration, migration["spec"]["template"], "Job", "epochlog-migrate")
    )
    assert kept is not None
    assert public(kept)["app"] == "migrate"
    assert "attempt" not in public(kept)
    assert (
        relabelled(rules, pod(postgres, postgres["spec"]["template"], "StatefulSet", "p")) is None
    )


@pytest.mark.parametrize("attempt", [1, 2, 13])
@pytest.mark.parametrize("source", SOURCES)
def test_each_attempt_has_its_own_label(source: str, attempt: int) -> None:
    [line, *_] = lines_of_trainer(LogFormat.TEXT, 7, TRACE, attempt)

    sent = SOURCES[source].send(trainer(source, 7, attempt), line.text)

    assert (sent.labels["job_id"], sent.labels["attempt"]) == ("7", str(attempt))


def without(stages: list[Stage], *kinds: str) -> list[Stage]:
    return [stage for stage in stages if not set(stage) & set(kinds)]


@pytest.mark.parametrize("where", ["containers", "files", "pods"])
def test_alloy_does_what_promtail_does(where: str) -> None:
    ours, theirs = (SOURCES[f"{one}-{where}"].stages for one in ("promtail", "alloy"))

    # Files of a node are in CRI's format; each source has one label too many of its own.
    own = ("cri", "labeldrop") if where == "pods" else ()
    assert without(list(ours), *own) == without(list(theirs), *own)


def test_alloy_finds_what_promtail_finds() -> None:
    assert rules_of(HERE["discovery.relabel.containers"]) == CONTAINERS["relabel_configs"]
    of_files = ("__host__", "__path__")
    assert rules_of(THERE["discovery.relabel.pods"]) == [
        rule for rule in PODS["relabel_configs"] if rule.get("target_label") not in of_files
    ]
    [docker] = CONTAINERS["docker_sd_configs"]
    told = HERE["discovery.docker.containers"]
    assert told.attributes == {key: docker[key] for key in ("host", "refresh_interval")}
    assert [one.attributes for one in told.named("filter")] == docker["filters"]
    [pods] = PODS["kubernetes_sd_configs"]
    told = THERE["discovery.kubernetes.pods"]
    assert told.attributes == {"role": pods["role"]}
    assert [one.attributes for one in told.named("namespaces")] == [pods["namespaces"]]
    assert HERE["local.file_match.attempts"].attributes["path_targets"] == [
        one["labels"] for one in FILES["static_configs"]
    ]


def test_promtail_reads_the_files_of_a_pod_on_its_own_node() -> None:
    found = relabelled(PODS["relabel_configs"], pod_of_trainer(7, 2))

    assert found is not None
    assert found["__host__"] == "node-1"
    file = "/var/log/pods/epochlog-training_train-7-2-x7k2p_0199-uid/trainer/0.log"
    assert PurePosixPath(file).match(found["__path__"])
    assert not PurePosixPath(file.replace("0199", "0200")).match(found["__path__"])
