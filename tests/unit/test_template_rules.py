"""A template that would break us is refused at the start, with everything that is wrong named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from service.clusters import Cluster
from service.errors import SettingsError
from service.job_template import JobTemplate
from tests.templates import (
    POD,
    REMOVED,
    TRAINER,
    changed,
    default_tree,
    launch,
    put,
    template_of,
    variables_of,
)

# Word for word what was decided on before there was ATTEMPT and all that came later.
THE_FIRST = """
apiVersion: batch/v1
kind: Job
metadata:
  name: "{name}"
  labels: {app: trainer, job-id: "{job_id}", trace-id: "{trace_id}"}
spec:
  ttlSecondsAfterFinished: 3600
  backoffLimit: 0
  activeDeadlineSeconds: 86400
  template:
    metadata:
      labels: {app: trainer, job-id: "{job_id}", trace-id: "{trace_id}"}
    spec:
      restartPolicy: Never
      containers:
        - name: trainer
          image: ghcr.io/yourorg/trainer-ultralytics:v1.0.0
          env:
            - {name: JOB_ID, value: "{job_id}"}
            - {name: TRACE_ID, value: "{trace_id}"}
            - {name: BACKEND_BASE_URL, value: "http://epochlog.training.svc:8080"}
            - name: CALLBACK_TOKEN
              valueFrom: {secretKeyRef: {name: "{token_secret}", key: token}}
            - {name: STORAGE_TYPE, value: r2}
"""

SIDECAR = {"name": "sidecar", "image": "busybox"}
JOB_ID = {"name": "JOB_ID", "value": "{job_id}"}
IGNORE = {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}
ENV = f"{TRAINER}.env"
TOKEN = f"{ENV}[CALLBACK_TOKEN].valueFrom.secretKeyRef"

WRONG: list[tuple[str, Any, str]] = [
    ("kind", "Pod", "apiVersion and kind must be batch/v1 and Job"),
    ("kind", REMOVED, "apiVersion and kind must be batch/v1 and Job"),
    ("apiVersion", "batch/v1beta1", "apiVersion and kind must be batch/v1 and Job"),
    ("metadata", REMOVED, "metadata must be a mapping"),
    ("metadata", "train", "metadata must be a mapping"),
    ("metadata.name", "train", 'metadata.name must be "{name}"'),
    ("metadata.name", "x-{name}", 'metadata.name must be "{name}"'),
    ("metadata.name", REMOVED, 'metadata.name must be "{name}"'),
    ("metadata.generateName", "train-", "metadata.generateName must be absent"),
    ("metadata.namespace", "prod", "metadata.namespace must be absent"),
    ("metadata.finalizers", ["a/b"], "metadata.finalizers must be absent"),
    ("metadata.ownerReferences", [], "metadata.ownerReferences must be absent"),
    ("metadata.annotations", ["a"], "metadata.annotations must be a mapping"),
    ("metadata.annotations", {"a": 1}, "metadata.annotations must be a mapping"),
    ("metadata.labels", REMOVED, "metadata.labels must have app"),
    ("metadata.labels", ["app"], "metadata.labels must have app"),
    ("metadata.labels.app", "train", 'metadata.labels must have app: "trainer"'),
    ("metadata.labels.job-id", "7", 'metadata.labels must have job-id: "{job_id}"'),
    ("metadata.labels.tier", 1, "metadata.labels.tier must be a label's text"),
    ("metadata.labels.tier", "a b", "metadata.labels.tier must be a label's text"),
    ("spec", REMOVED, "spec must be a mapping"),
    ("spec", [], "spec must be a mapping"),
    ("spec.backoffLimit", REMOVED, "spec.backoffLimit must be 0"),
    ("spec.backoffLimit", 6, "spec.backoffLimit must be 0"),
    ("spec.backoffLimit", False, "spec.backoffLimit must be 0"),
    ("spec.parallelism", 2, "spec.parallelism must be 1"),
    ("spec.completions", 0, "spec.completions must be 1"),
    ("spec.completionMode", "Indexed", "spec.completionMode must be NonIndexed"),
    ("spec.podReplacementPolicy", "Failed", "spec.podReplacementPolicy must not be Failed"),
    ("spec.podFailurePolicy", IGNORE, "spec.podFailurePolicy must not Ignore"),
    ("spec.managedBy", "kueue.x-k8s.io/multikueue", "spec.managedBy must be absent"),
    ("spec.manualSelector", True, "spec.manualSelector must be absent"),
    ("spec.selector", {"matchLabels": {"a": "b"}}, "spec.selector must be absent"),
    ("spec.ttlSecondsAfterFinished", -1, "spec.ttlSecondsAfterFinished must be a whole"),
    ("spec.ttlSecondsAfterFinished", "1h", "spec.ttlSecondsAfterFinished must be a whole"),
    ("spec.activeDeadlineSeconds", 0, "spec.activeDeadlineSeconds must be a whole"),
    ("spec.template", REMOVED, "spec.template must be a mapping"),
    ("spec.template.metadata", REMOVED, "spec.template.metadata.labels must have app"),
    ("spec.template.metadata.labels.trace-id", REMOVED, "spec.template.metadata.labels must have"),
    (f"{POD}.restartPolicy", "OnFailure", "restartPolicy must be Never"),
    (f"{POD}.restartPolicy", REMOVED, "restartPolicy must be Never"),
    (f"{TRAINER}.restartPolicy", "OnFailure", "containers[0] must have no restartPolicy of its"),
    (f"{TRAINER}.restartPolicyRules", [{"action": "Restart"}], "must have no restartPolicy of its"),
    (f"{POD}.containers", REMOVED, "containers must have a container named trainer"),
    (f"{POD}.containers", [], "containers must have a container named trainer"),
    (f"{POD}.containers", {"trainer": {}}, "containers must be a list of mappings"),
    (f"{POD}.containers", ["trainer"], "containers must be a list of mappings"),
    (f"{POD}.containers", [SIDECAR, {"name": "b"}], "one container that is named trainer"),
    (f"{TRAINER}.image", REMOVED, "containers[0].image must name an image"),
    (ENV, REMOVED, "containers[0].env must have JOB_ID"),
    (ENV, {"JOB_ID": "{job_id}"}, "containers[0].env must be a list of mappings"),
    (f"{ENV}[JOB_ID].value", 7, "containers[0].env[0].value must be a text: quote it"),
    (f"{ENV}[JOB_ID].name", 7, "containers[0].env[0].name must be a text"),
    (f"{ENV}[JOB_ID]", REMOVED, 'env must have JOB_ID with the value "{job_id}"'),
    (f"{ENV}[JOB_ID].value", "7", 'env must have JOB_ID with the value "{job_id}"'),
    (f"{ENV}[ATTEMPT].value", "1", 'env must have ATTEMPT with the value "{attempt}"'),
    (f"{ENV}[TRACE_ID]", REMOVED, 'env must have TRACE_ID with the value "{trace_id}"'),
    (f"{ENV}[BACKEND_BASE_URL]", REMOVED, "env must have BACKEND_BASE_URL"),
    (f"{ENV}[BACKEND_BASE_URL].value", "", "env must have BACKEND_BASE_URL"),
    (f"{ENV}[TWICE]", JOB_ID, "env has JOB_ID more than once"),
    (f"{ENV}[CALLBACK_TOKEN]", REMOVED, "env must have CALLBACK_TOKEN from the Secret"),
    (f"{ENV}[CALLBACK_TOKEN]", {"name": "X"}, "env must have CALLBACK_TOKEN from the Secret"),
    (f"{TOKEN}.name", "callback-token", "env must have CALLBACK_TOKEN from the Secret"),
    (f"{TOKEN}.key", "jwt", "env must have CALLBACK_TOKEN from the Secret"),
    (f"{TOKEN}.optional", True, "env must have CALLBACK_TOKEN from the Secret"),
    (f"{ENV}[R2_SECRET_ACCESS_KEY]", {"name": "R2_SECRET_ACCESS_KEY", "value": "k"}, "R2_SECRET"),
    (f"{ENV}[MINE]", {"name": "MINE", "value": "{epoch}"}, "(did you mean {epochs}?)"),
    (f"{ENV}[MINE]", {"name": "MINE", "value": "{EPOCHS}"}, "(did you mean {epochs}?)"),
    (f"{ENV}[MINE]", {"name": "MINE", "value": "$({bucket})"}, "has {bucket} inside of $(…)"),
    (f"{POD}.priorityClassName", "{zzz}", f"{POD}.priorityClassName has the unknown placeholder"),
    (f"{TRAINER}.args", ["{train_params}"], "may stand only in a variable's value"),
    ("metadata.annotations", {"{name}": ""}, "has a placeholder in the name '{name}'"),
]  # fmt: skip


def refusal(tree: Any, folder: Path) -> str:
    with pytest.raises(SettingsError) as refused:
        template_of(tree, folder)
    sentence = str(refused.value)
    assert sentence.startswith("EPOCHLOG_JOB_TEMPLATE needs a Job of Kubernetes that ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def changed_or_replaced(path: str, value: Any) -> Any:
    """As `changed`; an entry of a list that is there already gives way."""
    if path.endswith("]") and value is not REMOVED:
        try:
            put(tree := default_tree(), path, REMOVED)
        except ValueError:
            return changed(path, value)
        return put(tree, path, value)
    return changed(path, value)


@pytest.mark.parametrize(("path", "value", "named"), WRONG, ids=lambda part: f"{part!s:.60}")
def test_what_would_break_us_is_refused_by_name(
    tmp_path: Path, path: str, value: Any, named: str
) -> None:
    assert named in refusal(changed_or_replaced(path, value), tmp_path)


def test_everything_that_is_wrong_is_named_at_once(tmp_path: Path) -> None:
    tree = changed("spec.backoffLimit", 3)
    put(tree, f"{POD}.restartPolicy", "Always")
    put(tree, f"{ENV}[CALLBACK_TOKEN]", REMOVED)

    sentence = refusal(tree, tmp_path)

    assert "backoffLimit" in sentence
    assert "restartPolicy" in sentence
    assert "CALLBACK_TOKEN" in sentence
    assert sentence.count(";") == 2


@pytest.mark.parametrize("tree", ["- a\n", "a text\n", "{}\n"], ids=["list", "text", "empty"])
def test_what_is_no_job_at_all_is_refused(tmp_path: Path, tree: str) -> None:
    assert "batch/v1 and Job" in refusal(tree, tmp_path)


def test_a_template_of_the_first_days_still_serves(tmp_path: Path) -> None:
    template = template_of(THE_FIRST, tmp_path)

    job = template.render(launch(), cluster=Cluster(name="a"), image="ours:1", log_id="log")

    assert template.warnings == ()
    variables = variables_of(job)
    assert variables["BACKEND_BASE_URL"] == "http://epochlog.training.svc:8080"
    assert (variables["ATTEMPT"], variables["EPOCHS"], variables["STORAGE_TYPE"]) == (
        "1", "10", "r2",
    )  # fmt: skip
    [trainer] = job["spec"]["template"]["spec"]["containers"]
    assert trainer["image"] == "ghcr.io/yourorg/trainer-ultralytics:v1.0.0"


def test_the_trainer_may_be_one_of_several_containers(tmp_path: Path) -> None:
    tree = default_tree()
    tree["spec"]["template"]["spec"]["containers"].insert(0, SIDECAR)

    job = template_of(tree, tmp_path).render(
        launch(YOUNGER="1"), cluster=Cluster(name="a"), image="ours:1", log_id="log"
    )

    sidecar, trainer = job["spec"]["template"]["spec"]["containers"]
    assert sidecar == SIDECAR
    assert {"name": "YOUNGER", "value": "1"} in trainer["env"]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("spec.ttlSecondsAfterFinished", 0, "ttlSecondsAfterFinished is 0"),
        ("spec.ttlSecondsAfterFinished", 59, "ttlSecondsAfterFinished is 59"),
        ("spec.ttlSecondsAfterFinished", REMOVED, "ttlSecondsAfterFinished is missing"),
        ("spec.activeDeadlineSeconds", REMOVED, "activeDeadlineSeconds is missing"),
        ("spec.suspend", True, "spec.suspend is true"),
        (f"{POD}.terminationGracePeriodSeconds", 0, "terminationGracePeriodSeconds is 0"),
        (f"{POD}.containers[1]", SIDECAR, "more than the trainer"),
        (f"{TRAINER}.args", ["${epochs}"], "{epochs} is filled in"),
    ],
    ids=lambda part: f"{part!s:.60}",
)
def test_what_works_and_is_hardly_meant_is_doubted(
    tmp_path: Path, path: str, value: Any, named: str
) -> None:
    tree = default_tree()
    if path.endswith("[1]"):
        tree["spec"]["template"]["spec"]["containers"].append(value)
    else:
        put(tree, path, value)

    [warning] = template_of(tree, tmp_path).warnings

    assert named in warning
    assert str(tmp_path) in warning


@pytest.mark.parametrize(
    "value", ["${HOME}", "{{epochs}}", '{"a": {"b": 1}}', "{}", "{.status}", "$(JOB_ID)", "{a b}"]
)
def test_braces_of_others_are_left_alone(tmp_path: Path, value: str) -> None:
    template = template_of(changed(f"{TRAINER}.args", [value]), tmp_path)

    job = template.render(launch(), cluster=Cluster(name="a"), image="ours:1", log_id="log")

    assert template.warnings == ()
    [said] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert said == value.replace("{{epochs}}", "{epochs}")


def test_the_variable_that_names_the_file_is_the_one_complained_of(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(changed("spec.backoffLimit", 1)))

    with pytest.raises(SettingsError, match=r"^EPOCHLOG_CLUSTERS needs .*bad\.yaml"):
        JobTemplate.load(path, variable="EPOCHLOG_CLUSTERS")
