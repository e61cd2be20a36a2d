"""The fake cluster's API answers kubernetes-asyncio as a real one does."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from kubernetes_asyncio import client as kubernetes_client
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiException

from tests.cluster.clients import Kube, job_body, kube_of
from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.objects import JOBS
from tests.polling import eventually

ROLE = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["one"]},
]


def said(refusal: pytest.ExceptionInfo[Any]) -> Any:
    """The Status that came with a refusal."""
    return json.loads(refusal.value.body)


async def test_a_job_gets_what_the_server_gives(cluster: Cluster, kube: Kube) -> None:
    made = await kube.create_job()

    assert made.metadata.uid
    assert int(made.metadata.resource_version) > 0
    assert made.metadata.generation == 1
    assert made.metadata.creation_timestamp is not None
    assert made.status.start_time is None
    assert made.spec.pod_replacement_policy == "TerminatingOrFailed"
    labels = made.spec.template.metadata.labels
    assert labels["batch.kubernetes.io/controller-uid"] == made.metadata.uid
    assert labels["job-name"] == "train-1"


async def test_a_pod_is_owned_by_its_job(cluster: Cluster, kube: Kube) -> None:
    made = await kube.create_job()
    (pod,) = (await kube.core.list_namespaced_pod(kube.namespace)).items

    (owner,) = pod.metadata.owner_references
    assert (owner.kind, owner.uid, owner.controller) == ("Job", made.metadata.uid, True)
    assert pod.metadata.finalizers == ["batch.kubernetes.io/job-tracking"]
    assert pod.spec.containers[0].resources.requests == {"nvidia.com/gpu": "1"}
    assert pod.status.phase == "Pending"
    assert pod.status.qos_class == "BestEffort"


async def test_a_second_job_of_the_name_is_refused(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    with pytest.raises(ApiException) as refusal:
        await kube.create_job()

    assert refusal.value.status == 409
    assert said(refusal) == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'jobs.batch "train-1" already exists',
        "reason": "AlreadyExists",
        "details": {"name": "train-1", "group": "batch", "kind": "jobs"},
        "code": 409,
    }


async def test_what_is_not_there_is_not_found(kube: Kube) -> None:
    with pytest.raises(ApiException) as refusal:
        await kube.read_job("train-9")

    assert refusal.value.status == 404
    assert said(refusal)["message"] == 'jobs.batch "train-9" not found'
    assert said(refusal)["reason"] == "NotFound"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (job_body("Train_1"), "metadata.name"),
        (job_body("train-1", labels={"trace-id": "a b"}), "metadata.labels"),
        (job_body("train-1", pod={"restartPolicy": "Always"}), "spec.template.spec.restartPolicy"),
        (job_body("train-1", pod={"containers": []}), "spec.template.spec.containers"),
        (job_body("train-1", spec={"backoffLimit": -1}), "spec.backoffLimit"),
        (
            job_body(
                "train-1",
                container={"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "500m"}}},
            ),
            "spec.template.spec.containers[0].resources.requests",
        ),
    ],
    ids=["name", "label", "restart", "containers", "backoff", "resources"],
)
async def test_a_bad_job_is_invalid_by_its_field(kube: Kube, body: Any, field: str) -> None:
    with pytest.raises(ApiException) as refusal:
        await kube.batch.create_namespaced_job(kube.namespace, body)

    assert refusal.value.status == 422
    assert said(refusal)["reason"] == "Invalid"
    assert field in [cause["field"] for cause in said(refusal)["details"]["causes"]]


async def test_a_jobs_template_cannot_change(kube: Kube) -> None:
    await kube.create_job()
    patch = {"spec": {"template": {"metadata": {"labels": {"new": "label"}}}}}
    with pytest.raises(ApiException) as refusal:
        await kube.batch.patch_namespaced_job("train-1", kube.namespace, patch)

    assert refusal.value.status == 422
    assert "spec.template: Invalid value" in said(refusal)["message"]
    assert said(refusal)["message"].endswith("field is immutable")


async def test_a_dry_run_keeps_nothing(cluster: Cluster, kube: Kube) -> None:
    before = cluster.store.version
    body = job_body()
    made = await kube.batch.create_namespaced_job(kube.namespace, body, dry_run="All")

    assert made.metadata.uid
    assert cluster.store.version == before
    with pytest.raises(ApiException, match="404"):
        await kube.read_job()


async def test_a_list_is_narrowed_by_labels_and_fields(cluster: Cluster, kube: Kube) -> None:
    for number in (1, 2, 3):
        await kube.create_job(f"train-{number}")
    await kube.create_job("other", labels={"app": "other", "tier": "gold"})
    cluster.start("train-2")

    async def jobs(**narrowed: str) -> list[str]:
        found = await kube.batch.list_namespaced_job(kube.namespace, **narrowed)
        return [job.metadata.name for job in found.items]

    assert await jobs(label_selector="app=trainer") == ["train-1", "train-2", "train-3"]
    assert await jobs(label_selector="app=trainer,job-id in (1, 3)") == ["train-1", "train-3"]
    assert await jobs(label_selector="tier") == ["other"]
    assert await jobs(label_selector="!tier,job-id!=2") == ["train-1", "train-3"]
    assert await jobs(field_selector="metadata.name=train-3") == ["train-3"]
    running = await kube.core.list_namespaced_pod(
        kube.namespace, field_selector="status.phase=Running"
    )
    assert [pod.metadata.labels["job-id"] for pod in running.items] == ["2"]


async def test_events_are_found_by_what_they_are_about(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job("train-1")
    await kube.create_job("train-2")
    cluster.start("train-1")
    pod = cluster.pod("train-1")
    fields = f"involvedObject.uid={pod['metadata']['uid']},involvedObject.kind=Pod"
    found = await kube.core.list_namespaced_event(kube.namespace, field_selector=fields)

    assert {one.reason for one in found.items} == {"Scheduled", "Pulled", "Created", "Started"}
    assert {one.involved_object.name for one in found.items} == {pod["metadata"]["name"]}


async def test_a_long_list_comes_in_pages(cluster: Cluster, kube: Kube) -> None:
    for number in range(5):
        await kube.create_job(f"train-{number}")
    names: list[str] = []
    token = None
    versions = set()
    while True:
        page = await kube.batch.list_namespaced_job(kube.namespace, limit=2, _continue=token)
        names += [job.metadata.name for job in page.items]
        versions.add(page.metadata.resource_version)
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"train-{number}" for number in range(5)]
    assert len(versions) == 1


async def test_a_page_of_a_forgotten_list_is_gone(cluster: Cluster, kube: Kube) -> None:
    for number in range(3):
        await kube.create_job(f"train-{number}")
    page = await kube.batch.list_namespaced_job(kube.namespace, limit=1)
    cluster.forget_history()
    with pytest.raises(ApiException) as refusal:
        await kube.batch.list_namespaced_job(
            kube.namespace, limit=1, _continue=page.metadata._continue
        )
    assert refusal.value.status == 410
    assert said(refusal)["reason"] == "Expired"


async def test_a_job_of_another_uid_is_not_deleted(kube: Kube) -> None:
    made = await kube.create_job()
    options = {"preconditions": {"uid": "another"}, "propagationPolicy": "Background"}
    with pytest.raises(ApiException) as refusal:
        await kube.batch.delete_namespaced_job("train-1", kube.namespace, body=options)

    assert refusal.value.status == 409
    assert said(refusal)["message"].endswith(
        f"UID in precondition: another, UID in object meta: {made.metadata.uid}"
    )


async def test_by_default_a_deleted_job_leaves_its_pods(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    cluster.start("train-1")
    _, status, headers = await kube.batch.delete_namespaced_job_with_http_info(
        "train-1", kube.namespace
    )
    assert status == 200
    assert "child pods are preserved by default" in headers["Warning"]
    assert cluster.store.find(JOBS, kube.namespace, "train-1") is None
    (pod,) = (await kube.core.list_namespaced_pod(kube.namespace)).items
    assert pod.status.phase == "Running"
    assert pod.metadata.owner_references is None
    assert pod.metadata.finalizers is None


async def test_in_the_foreground_the_job_stays_until_its_pod_is_gone(
    cluster: Cluster, kube: Kube
) -> None:
    await kube.create_job()
    cluster.start("train-1")
    pod = cluster.pod("train-1")
    await kube.batch.delete_namespaced_job(
        "train-1", kube.namespace, propagation_policy="Foreground"
    )
    job = await kube.read_job()
    assert job.metadata.deletion_timestamp is not None
    assert job.metadata.finalizers == ["foregroundDeletion"]
    assert cluster.pod(pod)["metadata"]["deletionGracePeriodSeconds"] == 5

    cluster.exit(pod, 143)
    with pytest.raises(ApiException, match="404"):
        await kube.read_job()
    assert (await kube.core.list_namespaced_pod(kube.namespace)).items == []


async def test_in_the_background_the_job_goes_while_its_pod_stops(
    cluster: Cluster, kube: Kube
) -> None:
    made = await kube.create_job()
    await kube.core.create_namespaced_secret(kube.namespace, secret_of(made))
    cluster.start("train-1")
    pod = cluster.pod("train-1")
    answer = await kube.batch.delete_namespaced_job(
        "train-1", kube.namespace, propagation_policy="Background"
    )
    assert answer.status == "Success"
    with pytest.raises(ApiException, match="404"):
        await kube.read_job()
    with pytest.raises(ApiException, match="404"):
        await kube.core.read_namespaced_secret("callback-token-1", kube.namespace)
    assert cluster.pod(pod)["status"]["phase"] == "Running"
    cluster.exit(pod, 143)
    assert (await kube.core.list_namespaced_pod(kube.namespace)).items == []


def secret_of(job: Any) -> Any:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job.metadata.name}
    return {
        "metadata": {
            "name": "callback-token-1",
            "ownerReferences": [
                {**owner, "uid": job.metadata.uid, "blockOwnerDeletion": False},
            ],
        },
        "immutable": True,
        "stringData": {"token": "a made-up token"},
    }


async def test_a_secret_is_kept_encoded_and_cannot_change(kube: Kube) -> None:
    made = await kube.create_job()
    secret = await kube.core.create_namespaced_secret(kube.namespace, secret_of(made))
    assert base64.b64decode(secret.data["token"]) == b"a made-up token"

    with pytest.raises(ApiException) as refusal:
        await kube.core.patch_namespaced_secret(
            "callback-token-1", kube.namespace, {"stringData": {"token": "another"}}
        )
    assert refusal.value.status == 422
    assert "field is immutable when `immutable` is set" in said(refusal)["message"]


async def test_a_secret_whose_owner_is_gone_is_collected(kube: Kube) -> None:
    made = await kube.create_job()
    await kube.batch.delete_namespaced_job(
        "train-1", kube.namespace, propagation_policy="Background"
    )
    await kube.core.create_namespaced_secret(kube.namespace, secret_of(made))
    assert (await kube.core.list_namespaced_secret(kube.namespace)).items == []


async def test_without_a_known_token_nothing_is_answered(cluster: Cluster) -> None:
    async with kube_of(cluster, token="unknown") as stranger:
        with pytest.raises(ApiException) as refusal:
            await stranger.read_job()
    assert refusal.value.status == 401
    assert said(refusal)["message"] == "Unauthorized"


async def test_a_role_allows_what_it_lists(cluster: Cluster, kube: Kube) -> None:
    token = cluster.give_role(ROLE)
    user = "system:serviceaccount:training:epochlog"
    async with kube_of(cluster, token) as service:
        made = await service.create_job()
        await service.core.create_namespaced_secret(service.namespace, secret_of(made))
        with pytest.raises(ApiException) as refusal:
            await service.core.read_namespaced_secret("callback-token-1", service.namespace)
        with pytest.raises(ApiException) as elsewhere:
            await service.batch.list_job_for_all_namespaces()
        with pytest.raises(ApiException) as another:
            await service.core.read_namespaced_pod("two", service.namespace)

    assert refusal.value.status == elsewhere.value.status == another.value.status == 403
    assert said(refusal)["reason"] == "Forbidden"
    assert said(refusal)["message"] == (
        f'secrets "callback-token-1" is forbidden: User "{user}" cannot get resource "secrets" '
        'in API group "" in the namespace "training"'
    )
    assert said(elsewhere)["message"] == (
        f'jobs.batch is forbidden: User "{user}" cannot list resource "jobs" in API group "batch" '
        "at the cluster scope"
    )


async def test_a_verb_can_be_taken_away_and_asked_about(cluster: Cluster) -> None:
    token = cluster.give_role(ROLE)

    async def may(service: Kube, verb: str) -> bool:
        asked = {"verb": verb, "resource": "jobs", "group": "batch", "namespace": "training"}
        body = {"spec": {"resourceAttributes": asked}}
        answer = await service.auth.create_self_subject_access_review(body)
        return bool(answer.status.allowed)

    async with kube_of(cluster, token) as service:
        assert await may(service, "create")
        assert not await may(service, "delete")
        cluster.take_away(token, "create", "jobs")
        assert not await may(service, "create")
        assert await may(service, "list")
        with pytest.raises(ApiException, match="403"):
            await service.create_job()


@pytest.mark.parametrize("status", [400, 403, 500])
async def test_a_webhook_denies_in_its_own_words(cluster: Cluster, kube: Kube, status: int) -> None:
    cluster.admission.webhook("no GPUs on Fridays", status=status)
    with pytest.raises(ApiException) as refusal:
        await kube.create_job()
    assert refusal.value.status == status
    assert said(refusal)["message"] == (
        'admission webhook "policy.example.com" denied the request: no GPUs on Fridays'
    )


async def test_a_quota_of_jobs_refuses_the_job_itself(cluster: Cluster, kube: Kube) -> None:
    cluster.admission.quota(resource=JOBS, times=1)
    with pytest.raises(ApiException) as refusal:
        await kube.create_job()
    assert refusal.value.status == 403
    assert said(refusal)["message"] == (
        'jobs.batch "train-1" is forbidden: exceeded quota: training, requested: '
        "count/jobs.batch=1, used: count/jobs.batch=4, limited: count/jobs.batch=4"
    )
    await kube.create_job()


async def test_pod_security_warns_and_lets_no_pod_in(cluster: Cluster, kube: Kube) -> None:
    cluster.admission.pod_security = True
    _, status, headers = await kube.batch.create_namespaced_job_with_http_info(
        kube.namespace, job_body()
    )
    assert status == 201
    assert headers["Warning"].startswith('299 - "would violate PodSecurity \\"restricted:latest\\"')
    assert cluster.pods("train-1") == []
    (event,) = (await kube.core.list_namespaced_event(kube.namespace)).items
    assert 'violates PodSecurity "restricted:latest"' in event.message


async def test_a_pod_of_good_manners_passes_pod_security(cluster: Cluster, kube: Kube) -> None:
    cluster.admission.pod_security = True
    pod = {"securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}}
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    await kube.create_job(
        pod=pod
        | {"containers": [{"name": "trainer", "image": "trainer:1", "securityContext": own}]}
    )
    assert len(cluster.pods("train-1")) == 1


async def test_a_log_is_read_by_its_tail(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.log("train-1", "one\ntwo\nthree\n")
    name = cluster.pod("train-1")["metadata"]["name"]
    read = kube.core.read_namespaced_pod_log

    assert await read(name, kube.namespace) == "one\ntwo\nthree\n"
    assert await read(name, kube.namespace, tail_lines=2) == "two\nthree\n"
    cluster.lose_node("node-1")
    with pytest.raises(ApiException) as refusal:
        await read(name, kube.namespace)
    assert refusal.value.status == 500


async def test_a_container_that_waits_has_no_log(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    cluster.pull_fails("train-1", "ImagePullBackOff")
    name = cluster.pod("train-1")["metadata"]["name"]
    with pytest.raises(ApiException) as refusal:
        await kube.core.read_namespaced_pod_log(name, kube.namespace)
    assert refusal.value.status == 400
    assert said(refusal)["message"] == (
        f'container "trainer" in pod "{name}" is waiting to start: ImagePullBackOff'
    )


async def test_a_status_changes_only_by_its_subresource(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    name = cluster.pod("train-1")["metadata"]["name"]
    patch = {"status": {"message": "by hand"}, "metadata": {"annotations": {"a": "b"}}}
    plain = await kube.core.patch_namespaced_pod(name, kube.namespace, patch)
    assert (plain.status.message, plain.metadata.annotations) == (None, {"a": "b"})
    patched = await kube.core.patch_namespaced_pod_status(name, kube.namespace, patch)
    assert patched.status.message == "by hand"


async def test_an_old_version_cannot_overwrite(cluster: Cluster, kube: Kube) -> None:
    job = await kube.create_job()
    with pytest.raises(ApiException) as refusal:
        await kube.batch.replace_namespaced_job("train-1", kube.namespace, job)
    assert refusal.value.status == 409
    assert "the object has been modified" in said(refusal)["message"]


async def test_a_kubeconfig_leads_to_the_cluster(cluster: Cluster, tmp_path: Path) -> None:
    path = write_kubeconfig(tmp_path / "config", gpu=cluster)
    configuration = kubernetes_client.Configuration()
    await config.load_kube_config(
        config_file=str(path), context="gpu", client_configuration=configuration
    )
    async with kubernetes_client.ApiClient(configuration) as api:
        version = await kubernetes_client.VersionApi(api).get_code()
        listed = await kubernetes_client.BatchV1Api(api).list_namespaced_job(cluster.namespace)
        namespace = await kubernetes_client.CoreV1Api(api).read_namespace("training")
    assert version.minor == "36"
    assert listed.items == []
    assert namespace.status.phase == "Active"


async def test_requests_can_be_counted(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    await asyncio.gather(*(kube.read_job() for _ in range(3)))
    assert len(cluster.asked("create", "jobs")) == 1
    assert [one.path for one in cluster.asked("get", "jobs")] == [
        "/apis/batch/v1/namespaces/training/jobs/train-1"
    ] * 3


async def test_one_kubeconfig_leads_to_two_clusters(cluster: Cluster, tmp_path: Path) -> None:
    async with running_cluster(namespace="gpu") as other:
        other.add_job(job_body("there"))
        path = write_kubeconfig(tmp_path / "config", here=cluster, there=other)
        found: dict[str, list[str]] = {}
        for context, one in (("here", cluster), ("there", other)):
            configuration = kubernetes_client.Configuration()
            await config.load_kube_config(
                config_file=str(path), context=context, client_configuration=configuration
            )
            async with kubernetes_client.ApiClient(configuration) as api:
                listed = await kubernetes_client.BatchV1Api(api).list_namespaced_job(one.namespace)
                found[context] = [job.metadata.name for job in listed.items]
    assert found == {"here": [], "there": ["there"]}


async def test_a_stale_list_can_be_played(cluster: Cluster, kube: Kube) -> None:
    path = "/apis/batch/v1/namespaces/training/jobs"
    async with cluster.reader() as read:
        old = await read(path)
    await kube.create_job()
    cluster.faults.answer(200, times=1, path="/jobs$", body=old)
    assert (await kube.batch.list_namespaced_job(kube.namespace)).items == []
    assert len((await kube.batch.list_namespaced_job(kube.namespace)).items) == 1


async def test_a_failing_webhook_is_the_servers_fault(cluster: Cluster, kube: Kube) -> None:
    cluster.admission.webhook_down(times=1)
    with pytest.raises(ApiException) as refusal:
        await kube.create_job()
    assert refusal.value.status == 500
    assert said(refusal)["reason"] == "InternalError"
    await kube.create_job()


async def test_many_are_deleted_at_once(cluster: Cluster, kube: Kube) -> None:
    for number in (1, 2):
        await kube.create_job(f"train-{number}")
    await kube.batch.delete_collection_namespaced_job(
        kube.namespace, label_selector="job-id=1", body={"propagationPolicy": "Background"}
    )
    left = await kube.batch.list_namespaced_job(kube.namespace)
    assert [job.metadata.name for job in left.items] == ["train-2"]
    assert len((await kube.core.list_namespaced_pod(kube.namespace)).items) == 1


async def test_a_log_is_followed_to_its_end(cluster: Cluster, kube: Kube) -> None:
    await kube.create_job()
    cluster.start("train-1")
    cluster.log("train-1", "one\n")
    name = cluster.pod("train-1")["metadata"]["name"]
    following = asyncio.create_task(
        kube.core.read_namespaced_pod_log(name, kube.namespace, follow=True)
    )
    await eventually(lambda: cluster.asked("get", "pods/log"))
    cluster.log("train-1", "two\n")
    cluster.exit("train-1", 0)
    assert await following == "one\ntwo\n"


async def test_a_path_that_is_not_served_is_not_found(cluster: Cluster, kube: Kube) -> None:
    with pytest.raises(ApiException) as refusal:
        await kubernetes_client.AppsV1Api(kube.batch.api_client).list_namespaced_deployment(
            "training"
        )
    assert refusal.value.status == 404
    assert said(refusal)["message"] == "the server could not find the requested resource"
