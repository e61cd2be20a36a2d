"""How an attempt becomes a Job: the template as it comes, and what is filled in."""

from __future__ import annotations

import base64
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.clusters import Cluster
from service.executor import Launch, LaunchRefusedError
from service.job_template import JobTemplate, Names, names, token_secret
from service.settings import DEFAULT_TEMPLATE, TRAINER_IMAGE
from tests.templates import (
    ENVIRONMENT,
    POD,
    REMOVED,
    TRACE,
    TRAINER,
    as_a_container_reads,
    changed,
    default_tree,
    launch,
    put,
    template_of,
    variables_of,
)

HERE = Cluster(name="default")
DEFAULT = JobTemplate.load(DEFAULT_TEMPLATE)
LABELS = {"app": "trainer", "job-id": "7", "trace-id": TRACE}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
NASTY = TEXT | st.lists(
    st.sampled_from(["$", "(", ")", "{", "}", "epochs", "CALLBACK_TOKEN", '"', "\n", ": ", "&a"])
).map("".join)


def rendered(asked: Launch, template: JobTemplate = DEFAULT, cluster: Cluster = HERE) -> Any:
    return template.render(asked, cluster=cluster, image=TRAINER_IMAGE, log_id="the-log")


def secret_key(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def test_the_template_that_comes_with_the_service_has_no_fault_and_raises_no_doubt() -> None:
    assert DEFAULT.warnings == ()


def test_the_job_is_the_one_that_was_decided_on() -> None:
    job = rendered(launch())

    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert job["metadata"]["name"] == "train-7"
    assert job["metadata"]["labels"] == job["spec"]["template"]["metadata"]["labels"] == LABELS
    assert job["spec"].keys() == {
        "ttlSecondsAfterFinished", "backoffLimit", "activeDeadlineSeconds", "template",
    }  # fmt: skip
    assert job["spec"]["ttlSecondsAfterFinished"] == 3600
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == 86400
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    [trainer] = pod["containers"]
    assert trainer["image"] == "ghcr.io/yourorg/trainer-ultralytics:v1.0.0"
    assert trainer["resources"] == {
        "requests": {"cpu": "2", "memory": "8Gi"},
        "limits": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
    }


def test_the_trainer_gets_the_variables_that_were_decided_on() -> None:
    variables = variables_of(rendered(launch()))

    decided: dict[str, Any] = {
        "JOB_ID": "7",
        "TRACE_ID": TRACE,
        "BACKEND_BASE_URL": "https://epochlog.example.org",
        "CALLBACK_TOKEN": secret_key("callback-token-7", "token"),
        "STORAGE_TYPE": "r2",
        "R2_ENDPOINT": "https://r2.example.org",
        "R2_ACCESS_KEY_ID": secret_key("r2-credentials", "access_key_id"),
        "R2_SECRET_ACCESS_KEY": secret_key("r2-credentials", "secret_access_key"),
        "DATASET_ID": "coco8",
        "MODEL_NAME": "yolov8n",
        "EPOCHS": "10",
    }
    for name in ("write_access_key_id", "write_secret_access_key"):
        optional = {"name": "r2-credentials", "key": name, "optional": True}
        decided[f"R2_{name.upper()}"] = {"secretKeyRef": optional}
    younger = {"ATTEMPT": "1", "BUCKET": "runs", "HEARTBEAT_SECONDS": "30", "GRACE_SECONDS": "110"}
    younger |= {"DATASET_CACHE_BYTES": "0"}
    assert variables == decided | younger | {"WORK_DIR": "/work", "HOME": "/tmp"}  # noqa: S108


def test_the_pod_is_allowed_where_pod_security_is_restricted() -> None:
    pod = rendered(launch())["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    [trainer] = pod["containers"]
    assert trainer["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in trainer["volumeMounts"]}
    assert mounts == {"work": "/work", "tmp": "/tmp", "shm": "/dev/shm"}  # noqa: S108
    assert {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume} == set(mounts)


def test_the_pod_ends_in_a_way_that_leaves_time_and_traces() -> None:
    pod = rendered(launch())["spec"]["template"]["spec"]

    assert pod["terminationGracePeriodSeconds"] == 120
    assert pod["containers"][0]["terminationMessagePolicy"] == "FallbackToLogsOnError"
    patience = {taint["key"]: taint["tolerationSeconds"] for taint in pod["tolerations"]}
    assert patience == {
        "node.kubernetes.io/not-ready": 60,
        "node.kubernetes.io/unreachable": 60,
    }


@pytest.mark.parametrize("version", ["1.30", "1.36"])
@pytest.mark.parametrize("queue", [None, "gpu-queue"])
def test_kubernetes_takes_it(version: str, queue: str | None) -> None:
    asked = launch(attempt=2, IMGSZ="640", BATCH="8", RESUME_FROM="s3://b/last.pt")

    job = rendered(asked, cluster=Cluster(name="a", queue=queue))

    kubernetes_validate.validate(job, version, strict=True)
    kubernetes_validate.validate(secret(), version, strict=True)


def test_a_further_attempt_has_names_of_its_own_and_resumes() -> None:
    job = rendered(launch(attempt=3, RESUME_FROM="s3://runs/checkpoints/job-7/last.pt"))

    assert job["metadata"]["name"] == "train-7-3"
    variables = variables_of(job)
    assert variables["CALLBACK_TOKEN"] == secret_key("callback-token-7-3", "token")
    assert (variables["JOB_ID"], variables["ATTEMPT"]) == ("7", "3")
    assert variables["RESUME_FROM"] == "s3://runs/checkpoints/job-7/last.pt"


def test_names_are_those_of_the_contract() -> None:
    assert names(123, 1) == Names(job="train-123", secret="callback-token-123")
    assert names(123, 2) == Names(job="train-123-2", secret="callback-token-123-2")
    longest = names(2**63 - 1, 2**31 - 1)
    assert max(len(longest.job), len(longest.secret)) <= 63


@pytest.mark.parametrize("value", ["", "kept"])
def test_an_empty_text_of_the_templates_own_stays(tmp_path: Path, value: str) -> None:
    tree = changed(f"{TRAINER}.env[MINE]", {"name": "MINE", "value": value})

    assert variables_of(rendered(launch(), template_of(tree, tmp_path)))["MINE"] == value


def test_what_the_template_does_not_name_is_added_but_for_secrets(tmp_path: Path) -> None:
    tree = default_tree()
    for name in ("ATTEMPT", "EPOCHS", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY"):
        put(tree, f"{TRAINER}.env[{name}]", REMOVED)

    job = rendered(launch(YOUNGER="value"), template_of(tree, tmp_path))

    variables = variables_of(job)
    assert (variables["ATTEMPT"], variables["EPOCHS"], variables["YOUNGER"]) == ("1", "10", "value")
    assert "R2_ACCESS_KEY_ID" not in variables


def test_with_signed_addresses_no_key_of_the_store_enters_the_pod() -> None:
    job = rendered(launch(STORAGE_ACCESS="presigned"))

    variables = variables_of(job)
    assert not [name for name in variables if "KEY" in name]
    assert variables["STORAGE_ACCESS"] == "presigned"
    assert b"r2-credentials" not in orjson.dumps(job)


def test_the_headers_of_the_traces_are_a_secret() -> None:
    asked = launch(
        OTEL_EXPORTER_OTLP_HEADERS="api-key=of the service's own",
        OTEL_EXPORTER_OTLP_ENDPOINT="https://otel.example.org",
    )

    variables = variables_of(rendered(asked))

    assert variables["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://otel.example.org"
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in variables


def test_no_secret_of_the_environment_is_in_the_job() -> None:
    spelled = orjson.dumps(rendered(launch()))

    assert b"the.callback.token" not in spelled
    assert b"of the service's own" not in spelled


def test_the_log_is_noted_beside_the_templates_own_annotations(tmp_path: Path) -> None:
    tree = changed("metadata.annotations", {"team": "vision {job_id}"})

    job = rendered(launch(), template_of(tree, tmp_path))

    noted = {"team": "vision 7", "epochlog.dev/log": "the-log"}
    assert job["metadata"]["annotations"] == noted
    assert rendered(launch())["metadata"]["annotations"] == {"epochlog.dev/log": "the-log"}


def test_a_cluster_with_a_queue_admits_the_job_itself() -> None:
    queued = rendered(launch(), cluster=Cluster(name="a", queue="gpu-queue"))

    assert queued["spec"]["suspend"] is True
    assert queued["metadata"]["labels"] == {**LABELS, "kueue.x-k8s.io/queue-name": "gpu-queue"}
    assert queued["spec"]["template"]["metadata"]["labels"] == LABELS
    assert "suspend" not in rendered(launch())["spec"]


def test_a_job_leaves_the_template_as_it_was() -> None:
    before = orjson.dumps(DEFAULT.tree)

    job = rendered(launch(), cluster=Cluster(name="a", queue="q"))
    job["metadata"]["labels"]["app"] = "changed"

    assert orjson.dumps(DEFAULT.tree) == before


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = DEFAULT_TEMPLATE.read_text("utf-8")
    assert "*labels" in text
    text = text.replace("labels: *labels", "labels: { <<: *labels, tier: gpu }")

    job = rendered(launch(), template_of(text, tmp_path))

    assert job["spec"]["template"]["metadata"]["labels"] == {**LABELS, "tier": "gpu"}
    assert job["metadata"]["labels"] == LABELS


def test_placeholders_are_filled_wherever_a_plain_word_may_stand(tmp_path: Path) -> None:
    tree = changed(f"{TRAINER}.command", ["sh", "-c", "train --epochs {epochs} ${HOME} {{epochs}}"])
    put(tree, f"{POD}.nodeSelector", {"pool": "{cluster}-{namespace}"})

    job = rendered(launch(), template_of(tree, tmp_path), Cluster(name="a100", namespace="ml"))

    pod = job["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"][2] == "train --epochs 10 ${HOME} {epochs}"
    assert pod["nodeSelector"] == {"pool": "a100-ml"}


@given(value=NASTY)
def test_a_variable_is_what_it_was_in_the_container_whatever_it_holds(value: str) -> None:
    asked = launch(TRAIN_PARAMS=value, MODEL_NAME=value, YOUNGER=value)

    job = rendered(asked)

    variables = variables_of(job)
    for name in ("TRAIN_PARAMS", "MODEL_NAME", "YOUNGER"):
        assert as_a_container_reads(variables.get(name, ""), {"CALLBACK_TOKEN": "x"}) == value
    assert without_variables(job) == without_variables(rendered(launch()))
    if value:  # nothing but the three has changed
        others = variables_of(rendered(launch(TRAIN_PARAMS="a", MODEL_NAME="b", YOUNGER="c")))
        assert {name: variables[name] for name in variables} == others | {
            name: variables[name] for name in ("TRAIN_PARAMS", "MODEL_NAME", "YOUNGER")
        }


def without_variables(job: Any) -> Any:
    return {**job, "spec": put(orjson.loads(orjson.dumps(job)), f"{TRAINER}.env", [])["spec"]}


@given(value=NASTY)
def test_what_the_template_writes_around_a_value_keeps_its_meaning(value: str) -> None:
    said = "$(JOB_ID)-{train_params}(CALLBACK_TOKEN)"
    tree = changed(f"{TRAINER}.env[MINE]", {"name": "MINE", "value": said})
    template = JobTemplate(path=DEFAULT_TEMPLATE, tree=tree)

    mine = variables_of(rendered(launch(TRAIN_PARAMS=value), template))["MINE"]

    others = {"JOB_ID": "7", "CALLBACK_TOKEN": "the.callback.token"}
    assert as_a_container_reads(mine, others) == f"7-{value}(CALLBACK_TOKEN)"


@given(value=NASTY)
def test_outside_of_variables_a_value_is_a_plain_word_or_refused(value: str) -> None:
    tree = changed(f"{TRAINER}.command", ["sh", "-c", "train {dataset_id} --fast"])
    template = JobTemplate(path=DEFAULT_TEMPLATE, tree=tree)
    try:
        job = rendered(launch(DATASET_ID=value), template)
    except LaunchRefusedError as refused:
        assert "{dataset_id}" in str(refused)  # noqa: PT017 - either end is right
    else:
        assert job["spec"]["template"]["spec"]["containers"][0]["command"][2].split(" ") == [
            "train",
            value,
            "--fast",
        ]
        assert not set(value) & set("$();&|<>`'\"\\ \n{}*?!#~=")
        assert not value.startswith("-")


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        pytest.param({"TRAIN_PARAMS": "x" * 131_072}, "TRAIN_PARAMS", id="too long for Linux"),
        pytest.param({"TRAIN_PARAMS": "a\0b"}, "TRAIN_PARAMS", id="NUL"),
        pytest.param({"TRAIN_PARAMS": "\ud800"}, "TRAIN_PARAMS", id="half a character"),
        pytest.param(
            {f"TRAIN_{number}": "x" * 100_000 for number in range(3)}, "256", id="too much of all"
        ),
    ],
)
def test_a_job_that_could_not_start_is_refused(variables: dict[str, str], named: str) -> None:
    with pytest.raises(LaunchRefusedError, match=named):
        rendered(Launch(job_id=7, attempt=1, environment={**ENVIRONMENT, **variables}))


@pytest.mark.parametrize("value", ["org/yolov8n", "m" * 64, "ends-", ".begins"])
def test_a_label_that_kubernetes_would_refuse_is_refused_by_name(
    tmp_path: Path, value: str
) -> None:
    tree = changed("spec.template.metadata.labels.model", "{model_name}")

    with pytest.raises(LaunchRefusedError, match=r"model"):
        rendered(launch(MODEL_NAME=value), template_of(tree, tmp_path))


def test_a_label_may_be_filled_in(tmp_path: Path) -> None:
    tree = changed("spec.template.metadata.labels.model", "{model_name}")

    job = rendered(launch(MODEL_NAME="yolov8n.pt"), template_of(tree, tmp_path))

    assert job["spec"]["template"]["metadata"]["labels"]["model"] == "yolov8n.pt"


def secret() -> Any:
    return token_secret(
        job_name="train-7",
        job_uid="5f0c9a52-0000-4000-8000-000000000000",
        secret_name="callback-token-7",
        token="the.callback.token",
        labels=LABELS,
    )


def test_the_tokens_secret_belongs_to_the_job_and_never_changes() -> None:
    made = secret()

    assert (made["apiVersion"], made["kind"], made["immutable"]) == ("v1", "Secret", True)
    assert base64.b64decode(made["data"]["token"]) == b"the.callback.token"
    assert made["metadata"] == {
        "name": "callback-token-7",
        "labels": LABELS,
        "ownerReferences": [
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "name": "train-7",
                "uid": "5f0c9a52-0000-4000-8000-000000000000",
                "blockOwnerDeletion": False,
            }
        ],
    }


def test_the_wheel_holds_the_template_where_it_is_looked_for() -> None:
    root = Path(__file__).parents[2]
    with (root / "pyproject.toml").open("rb") as file:
        wheel = tomllib.load(file)["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert wheel.keys() == {"only-include"}  # no rewriting of paths
    assert str(DEFAULT_TEMPLATE.relative_to(root)) in wheel["only-include"]
    assert "service" in wheel["only-include"]
