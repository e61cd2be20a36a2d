"""The clusters file: small, strict, and every fault named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.clusters import Cluster, Clusters, clusters_of
from service.errors import InvalidRequestError, SettingsError
from service.settings import DEFAULT_TEMPLATE, Settings

TWO = """
clusters:
  - name: a100
    context: gpu-west
    namespace: training
    job_template: a100.yaml
    queue: gpu-queue
  - {name: here, in_cluster: true}
"""


def settings(folder: Path, text: str | None = None, **variables: str) -> Settings:
    environ = {"EPOCHLOG_EXECUTOR": "kubernetes", **variables}
    if text is not None:
        (folder / "clusters.yaml").write_text(text)
        environ["EPOCHLOG_CLUSTERS"] = str(folder / "clusters.yaml")
    return Settings.from_env(environ)


def test_without_a_file_there_is_one_cluster_by_the_variables(tmp_path: Path) -> None:
    asked = settings(
        tmp_path,
        EPOCHLOG_KUBE_CONTEXT="west",
        EPOCHLOG_KUBE_NAMESPACE="training",
        EPOCHLOG_JOB_TEMPLATE="/etc/job.yaml",
    )

    assert clusters_of(asked).all == (
        Cluster(
            name="default",
            context="west",
            namespace="training",
            job_template=Path("/etc/job.yaml"),
        ),
    )


def test_with_nothing_set_it_is_the_kubeconfigs_own(tmp_path: Path) -> None:
    [only] = clusters_of(settings(tmp_path))

    assert only == Cluster(name="default", namespace="default", job_template=DEFAULT_TEMPLATE)
    assert only.place == "kubernetes:default/default"


def test_a_file_names_several_and_leaves_out_what_is_usual(tmp_path: Path) -> None:
    found = clusters_of(settings(tmp_path, TWO, EPOCHLOG_KUBE_NAMESPACE="ml"))

    assert found.all == (
        Cluster(
            name="a100",
            context="gpu-west",
            namespace="training",
            job_template=tmp_path / "a100.yaml",
            queue="gpu-queue",
        ),
        Cluster(name="here", in_cluster=True, namespace="ml", job_template=DEFAULT_TEMPLATE),
    )
    assert [cluster.place for cluster in found] == [
        "kubernetes:a100/training",
        "kubernetes:here/ml",
    ]


def test_a_job_goes_to_the_cluster_it_names_or_to_the_first(tmp_path: Path) -> None:
    found = clusters_of(settings(tmp_path, TWO))

    assert found.cluster_for(None).name == "a100"
    assert found.cluster_for("here").name == "here"


def test_a_cluster_that_is_not_there_is_refused_with_the_names_that_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        clusters_of(settings(tmp_path, TWO)).cluster_for("h100")

    [fault] = refused.value.errors
    assert fault.field == "cluster"
    assert fault.message == "needs the name of a cluster (a100, here)"


@pytest.mark.parametrize("executor", ["local", "external"])
def test_another_executor_has_no_clusters(tmp_path: Path, executor: str) -> None:
    found = clusters_of(settings(tmp_path, TWO, EPOCHLOG_EXECUTOR=executor))

    assert found == Clusters()
    with pytest.raises(InvalidRequestError, match="no trainings on Kubernetes"):
        found.cluster_for("a100")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("- a", "the document needs to be a mapping"),
        ("clusters:", "clusters needs a list of 1 to 100 clusters"),
        ("clusters: []", "clusters needs a list of 1 to 100 clusters"),
        ("clusters: {name: a}", "clusters needs a list of 1 to 100 clusters"),
        ("cluster: []", "clusters is missing: it needs a list; cluster is not known"),
        ("clusters: [a]", "clusters[0] needs to be a mapping of names to values"),
        ("clusters: [{}]", "clusters[0].name is missing: it needs 1 to 63 small letters"),
        ("clusters: [{name: A}]", "clusters[0].name needs 1 to 63 small letters"),
        ("clusters: [{name: 1}]", "clusters[0].name needs 1 to 63 small letters"),
        ("clusters: [{name: a-}]", "clusters[0].name needs 1 to 63 small letters"),
        ("clusters: [{name: a, namespace: a.b}]", "clusters[0].namespace needs 1 to 63"),
        ("clusters: [{name: a, context: ''}]", "clusters[0].context needs the name of a context"),
        ("clusters: [{name: a, in_cluster: 'yes'}]", "clusters[0].in_cluster needs true or false"),
        ("clusters: [{name: a, job_template: 1}]", "clusters[0].job_template needs the path"),
        ("clusters: [{name: a, queue: A B}]", "clusters[0].queue needs 1 to 63"),
        ("clusters: [{name: a, contex: x}]", "clusters[0].contex is not known (there are name, "),
        (
            "clusters: [{name: b}, {name: a, context: x, in_cluster: true}]",
            "clusters[1] needs either context or in_cluster",
        ),
        (
            "clusters: [{name: a, context: x}, {name: b, context: y}, {name: a, context: z}]",
            "clusters[2].name is that of clusters[0] too",
        ),
        ("clusters: [{name: a}, {name: b}]", "clusters[1] is the same namespace as clusters[0]"),
        ("clusters: [{name: a, name: b}]", "'name' is given twice"),
    ],
)
def test_what_is_wrong_with_the_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        clusters_of(settings(tmp_path, text))

    sentence = str(refused.value)
    assert sentence.startswith("EPOCHLOG_CLUSTERS needs a YAML file with a list `clusters`")
    assert all(part in sentence for part in named.split("; "))
    assert "\n" not in sentence


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    text = "clusters: [{name: A, queue: B}, {contex: x}]"

    with pytest.raises(SettingsError) as refused:
        clusters_of(settings(tmp_path, text))

    for place in (
        "clusters[0].name",
        "clusters[0].queue",
        "clusters[1].name",
        "clusters[1].contex",
    ):
        assert place in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    asked = settings(tmp_path, EPOCHLOG_CLUSTERS=str(tmp_path / "absent.yaml"))

    with pytest.raises(SettingsError, match=r"^EPOCHLOG_CLUSTERS .*absent\.yaml cannot be read"):
        clusters_of(asked)
