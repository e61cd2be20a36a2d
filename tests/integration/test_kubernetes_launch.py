"""Launching on a cluster: one Job and one Secret, whatever goes wrong between any two steps."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from service import cluster_client, cluster_launcher, cluster_watch, kubernetes
from tests.cluster.clients import job_body
from tests.cluster.cluster import Cluster
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.objects import JOBS, PODS, SECRETS
from tests.cluster.refusals import namespace_terminating, quota_conflict
from tests.cluster.store import Change
from tests.clustered import everything, is_there, left, names, story, until, until_said, with_token
from tests.conftest import StartService
from tests.http import Api
from tests.polling import eventually


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> None:
    cluster.watches.bookmark_every = 0.2
    monkeypatch.setattr(cluster_launcher, "HOLD_SECONDS", 0.1)
    monkeypatch.setattr(kubernetes, "WARNING_SECONDS", 0.2)
    monkeypatch.setattr(cluster_watch, "LONGEST_WAIT", 0.6)
    monkeypatch.setattr(cluster_watch, "FORBIDDEN_SECONDS", 0.2)
    monkeypatch.setattr(cluster_client, "CALL", aiohttp.ClientTimeout(total=4, sock_read=2))
    monkeypatch.setattr(cluster_client, "STREAM", aiohttp.ClientTimeout(sock_read=3))


@pytest_asyncio.fixture
async def api(start_service: StartService, cluster: Cluster, tmp_path: Path) -> Api:
    return await start_service(**on(cluster, tmp_path))


def on(cluster: Cluster, folder: Path, token: str | None = None) -> dict[str, str]:
    return {
        "EPOCHLOG_EXECUTOR": "kubernetes",
        "KUBECONFIG": str(write_kubeconfig(folder / "kubeconfig", token=token, one=cluster)),
        "EPOCHLOG_KUBE_NAMESPACE": cluster.namespace,
        "EPOCHLOG_RETRY_BACKOFF": "0.1",
        "EPOCHLOG_DONE_GRACE": "0.5",
    }


async def check_one_of_each(api: Api, cluster: Cluster, job: object) -> None:
    """One Job, one pod, one Secret that the Job owns; and the log has the Job's uid, once."""
    assert isinstance(job, dict)
    launched = await until_said(api, job, "launched")
    made, secret = everything(cluster, JOBS), everything(cluster, SECRETS)
    assert [one["metadata"]["name"] for one in made] == [f"train-{job['id']}"]
    assert [one["metadata"]["name"] for one in secret] == [f"callback-token-{job['id']}"]
    owner = secret[0]["metadata"]["ownerReferences"][0]
    uid = made[0]["metadata"]["uid"]
    assert (owner["uid"], owner.get("blockOwnerDeletion", False)) == (uid, False)
    assert secret[0]["immutable"] is True
    assert [one["data"]["uid"] for one in launched] == [uid]
    assert len(names(cluster, PODS)) == 1


@pytest.mark.parametrize("path", ["jobs$", "secrets$"])
@pytest.mark.parametrize("seconds", [0.0, 3.0], ids=["cut", "timed out"])
async def test_an_answer_that_is_lost_makes_nothing_twice(
    api: Api, cluster: Cluster, path: str, seconds: float
) -> None:
    cluster.faults.lose_answer(path=path, seconds=seconds)

    job = await api.create_job()

    await until(api, job, "queued", "scheduling")
    await check_one_of_each(api, cluster, job)
    assert len(cluster.asked("create", path.rstrip("$"))) == 2


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_an_outage_at_the_launch_is_waited_out(
    api: Api, cluster: Cluster, status: int
) -> None:
    cluster.faults.answer(status, times=2, method="POST", path="jobs$")
    cluster.faults.answer(status, times=2, method="POST", path="secrets$")

    job = await api.create_job()

    await until(api, job, "queued", "scheduling")
    await check_one_of_each(api, cluster, job)
    assert "attempt_failed" not in await story(api, job)


async def test_a_webhook_that_is_away_is_an_outage(api: Api, cluster: Cluster) -> None:
    cluster.admission.webhook_down(times=3)

    job = await api.create_job()

    await until(api, job, "queued", "scheduling")
    await check_one_of_each(api, cluster, job)


@pytest.mark.parametrize("status", [400, 403])
async def test_a_webhook_that_denies_has_the_last_word(
    api: Api, cluster: Cluster, status: int
) -> None:
    cluster.admission.webhook("jobs need a cost centre", status=status)

    job = await api.create_job()

    shown = await until(api, job, "failed", "launch_refused")
    assert "jobs need a cost centre" in shown["reason"]["message"]
    assert shown["retry_count"] == 0
    assert left(cluster) == []


async def test_a_webhook_that_stays_away_is_told_of(
    api: Api, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_launcher, "LONG_OUTAGE_SECONDS", 0.2)
    monkeypatch.setattr(cluster_launcher, "OUTAGE_SECONDS", 0.1)
    cluster.admission.webhook_down()

    job = await api.create_job()

    shown = await until(api, job, "queued", "launch_delayed")
    assert 'failed calling webhook "policy.example.com"' in shown["reason"]["message"]
    cluster.admission.allow()
    await until(api, job, "queued", "scheduling")
    await check_one_of_each(api, cluster, job)
    assert (await story(api, job)).count("queued:launch_delayed") == 1


async def test_a_launch_waits_as_long_as_the_server_asks(api: Api, cluster: Cluster) -> None:
    cluster.faults.answer(429, times=1, method="POST", path="jobs$", retry_after=2)

    job = await api.create_job()

    await eventually(lambda: cluster.asked("create", "jobs"))
    began = time.monotonic()
    await until(api, job, "queued", "scheduling")
    assert time.monotonic() - began >= 1.5
    assert len(cluster.asked("create", "jobs")) == 2


@pytest.mark.parametrize("path", ["jobs$", "secrets$"])
async def test_a_quota_that_two_count_at_once_is_tried_again(
    api: Api, cluster: Cluster, path: str
) -> None:
    conflict = quota_conflict().body()
    cluster.faults.answer(409, times=1, method="POST", path=path, body=conflict)

    job = await api.create_job()

    await until(api, job, "queued", "scheduling")
    await check_one_of_each(api, cluster, job)


async def test_a_quota_that_the_job_itself_has_filled_does_not_hold_it(
    api: Api, cluster: Cluster
) -> None:
    def fill(change: Change) -> None:
        if change.entry.resource is JOBS and change.type == "ADDED":
            cluster.admission.quota(resource=JOBS)

    cluster.store.listeners.append(fill)
    cluster.faults.lose_answer(path="jobs$")

    job = await api.create_job()

    await until(api, job, "queued", "scheduling")
    await check_one_of_each(api, cluster, job)


async def test_a_secret_that_somebody_deleted_is_made_again(api: Api, cluster: Cluster) -> None:
    job = await api.create_job()
    name, secret = f"train-{job['id']}", f"callback-token-{job['id']}"
    await until(api, job, "queued", "scheduling")
    cluster.store.remove(SECRETS, cluster.namespace, secret)
    cluster.config_error(name, f'secret "{secret}" not found')

    await until(api, job, "queued", "config_error")

    await eventually(lambda: names(cluster, SECRETS) == [secret])
    cluster.start(name)
    await until(api, job, "running", "seen_alive")
    await check_one_of_each(api, cluster, job)


async def test_a_namespace_that_is_being_deleted_holds_the_launch(
    api: Api, cluster: Cluster
) -> None:
    gone = namespace_terminating(JOBS, "train-1", cluster.namespace).body()
    cluster.faults.answer(403, method="POST", path="jobs$", body=gone)

    job = await api.create_job()

    shown = await until(api, job, "queued", "namespace_missing")
    assert "it is being terminated" in shown["reason"]["message"]
    cluster.faults.clear()
    await until(api, job, "queued", "scheduling")


async def test_a_policy_that_speaks_like_a_role_is_a_policy(api: Api, cluster: Cluster) -> None:
    cluster.admission.webhook("teams cannot use a resource without a label", status=403)

    job = await api.create_job()

    await until(api, job, "failed", "launch_refused")


async def test_a_resumed_job_says_that_its_next_pod_is_refused(api: Api, cluster: Cluster) -> None:
    job = await api.create_job()
    name = f"train-{job['id']}"
    await until(api, job, "queued", "scheduling")
    cluster.exits_on_sigterm = 143
    cluster.start(name)
    await until(api, job, "running")
    cluster.suspend(name)
    await until(api, job, "queued", "suspended")
    cluster.quota_blocks()
    cluster.resume(name)

    await until(api, job, "queued", "pod_create_blocked")

    cluster.quota_frees()
    await until(api, job, "queued", "scheduling")
    cluster.start(name)
    await until(api, job, "running", "seen_alive")
    assert (await story(api, job)).count("running") == 2


async def test_a_quota_on_jobs_holds_the_launch_until_it_frees(api: Api, cluster: Cluster) -> None:
    cluster.admission.quota(resource=JOBS)

    job = await api.create_job()

    shown = await until(api, job, "queued", "quota_exceeded")
    assert "exceeded quota" in shown["reason"]["message"]
    cluster.admission.allow()
    await until(api, job, "queued", "scheduling")
    await check_one_of_each(api, cluster, job)
    assert (await story(api, job)).count("queued:quota_exceeded") == 1


async def test_a_quota_on_pods_is_told_in_the_clusters_words(api: Api, cluster: Cluster) -> None:
    cluster.quota_blocks()

    job = await api.create_job()

    shown = await until(api, job, "queued", "pod_create_blocked")
    assert "exceeded quota" in shown["reason"]["message"]
    cluster.quota_frees()
    await until(api, job, "queued", "scheduling")


async def test_the_default_template_is_let_in_where_pods_are_restricted(
    api: Api, cluster: Cluster
) -> None:
    cluster.admission.pod_security = True

    job = await api.create_job()

    await until(api, job, "queued", "scheduling")
    await check_one_of_each(api, cluster, job)


async def test_a_secret_that_is_refused_takes_its_job_along(api: Api, cluster: Cluster) -> None:
    cluster.admission.refuse(SECRETS, 422, "Invalid", "secrets must be sealed")

    job = await api.create_job()

    shown = await until(api, job, "failed", "launch_refused")
    assert "secrets must be sealed" in shown["reason"]["message"]
    await eventually(lambda: left(cluster) == [])


async def test_a_secret_over_the_quota_takes_its_job_along_and_waits(
    api: Api, cluster: Cluster
) -> None:
    cluster.admission.quota(resource=SECRETS)

    job = await api.create_job()

    await until(api, job, "queued", "quota_exceeded")
    await eventually(lambda: left(cluster) == [])
    cluster.admission.allow()
    await until(api, job, "queued", "scheduling")
    await check_one_of_each(api, cluster, job)


async def test_a_name_that_is_taken_by_a_stranger_is_left_alone(api: Api, cluster: Cluster) -> None:
    stranger = cluster.add_job(job_body("train-1"))

    job = await api.create_job()

    shown = await until(api, job, "failed", "launch_refused")
    uid = stranger["metadata"]["uid"]
    assert uid in shown["reason"]["message"]
    assert cluster.job("train-1")["metadata"]["uid"] == uid


RULES = [
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": "create get list watch delete"},
    {"apiGroups": [""], "resources": ["pods"], "verbs": "get list watch"},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": "get"},
    {"apiGroups": [""], "resources": ["events"], "verbs": "list"},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": "create delete"},
]
ROLE = [{**rule, "verbs": str(rule["verbs"]).split()} for rule in RULES]


@pytest.mark.parametrize("resource", ["jobs", "secrets"])
async def test_a_verb_that_is_missing_is_told_and_nothing_is_left(
    start_service: StartService, cluster: Cluster, tmp_path: Path, resource: str
) -> None:
    token = cluster.give_role(ROLE)
    cluster.take_away(token, "create", resource)
    api = await start_service(**on(cluster, tmp_path, token))

    job = await api.create_job()

    shown = await until(api, job, "queued", "forbidden")
    assert f'cannot create resource "{resource}"' in shown["reason"]["message"]
    await eventually(lambda: left(cluster) == [])


async def test_the_role_suffices_from_the_launch_to_the_end(
    start_service: StartService, cluster: Cluster, tmp_path: Path
) -> None:
    api = await start_service(**on(cluster, tmp_path, cluster.give_role(ROLE)))
    job = await api.create_job()
    await until(api, job, "queued", "scheduling")
    cluster.schedule(f"train-{job['id']}")
    cluster.start(f"train-{job['id']}")
    await until(api, job, "running")

    await api.post(f"/v1/jobs/{job['id']}/cancel", {})
    await api.call_back(with_token(cluster, job), "done", {"status": "failed"})
    cluster.exit(f"train-{job['id']}", 0)

    await until(api, job, "cancelled")
    assert (await api.events(job, "evidence"))[-1]["data"]["data"]["events"]


async def test_two_services_make_one_job_and_tell_everything_once(
    start_service: StartService, cluster: Cluster, tmp_path: Path
) -> None:
    first = await start_service(**on(cluster, tmp_path))
    elsewhere = {"EPOCHLOG_STATE_DIR": str(tmp_path / "second")}
    second = await start_service(**on(cluster, tmp_path), **elsewhere)

    job = await second.create_job()

    await until(first, job, "queued", "scheduling")
    await check_one_of_each(first, cluster, job)
    cluster.schedule(f"train-{job['id']}")
    cluster.start(f"train-{job['id']}")
    await until(second, job, "running")
    told = await story(first, job)
    assert told == list(dict.fromkeys(told))


async def test_a_cluster_that_hangs_makes_its_jobs_unreachable_and_no_more(
    api: Api, cluster: Cluster
) -> None:
    job = await api.create_job()
    await until(api, job, "queued", "scheduling")
    cluster.schedule(f"train-{job['id']}")
    cluster.start(f"train-{job['id']}")
    await until(api, job, "running")

    cluster.faults.freeze()

    await until_said(api, job, "health_changed")
    assert (await until(api, job, "running"))["health"]["verdict"] == "unreachable"
    cluster.faults.thaw()
    await eventually(lambda: len(cluster.watches) >= 2)
    cluster.out_of_memory(f"train-{job['id']}")
    failed = await until_said(api, job, "attempt_failed")
    assert failed[0]["data"]["reason"] == "oom_killed"


async def test_a_job_cleared_away_while_the_server_was_down_is_missed(
    api: Api, cluster: Cluster
) -> None:
    job = await api.create_job(max_retries=0)
    await until(api, job, "queued", "scheduling")
    cluster.schedule(f"train-{job['id']}")
    cluster.start(f"train-{job['id']}")
    await until(api, job, "running")

    await cluster.stop()
    cluster.exit(f"train-{job['id']}", 1)
    cluster.expire_ttl(f"train-{job['id']}")
    await cluster.restart()

    await until(api, job, "failed", "job_vanished")
    assert len(cluster.asked("create", "jobs")) == 1


async def test_another_job_under_the_same_name_is_not_taken_for_ours(
    api: Api, cluster: Cluster
) -> None:
    job = await api.create_job(max_retries=0)
    name = f"train-{job['id']}"
    await until(api, job, "queued", "scheduling")
    cluster.schedule(name)
    cluster.start(name)
    await until(api, job, "running")

    cluster.exits_on_sigterm = 143
    cluster.delete_job(name)
    cluster.add_job(job_body(name))
    cluster.schedule(name)
    cluster.start(name)

    await until(api, job, "failed", "job_vanished")
    assert is_there(cluster, job)


async def test_the_evidence_of_an_end_is_kept_without_secrets(api: Api, cluster: Cluster) -> None:
    job = await api.create_job(max_retries=0)
    name = f"train-{job['id']}"
    await until(api, job, "queued", "scheduling")
    cluster.schedule(name, node="node-3")
    cluster.start(name)
    await until(api, job, "running")
    cluster.log(name, "epoch 7 of 10\npassword=hunter2hunter2\nCUDA out of memory\n")

    cluster.out_of_memory(name)

    shown = await until(api, job, "failed", "oom_killed")
    assert "node-3" in shown["reason"]["message"]
    assert "memory limit 16Gi" in shown["reason"]["message"]
    kept = (await api.events(job, "evidence"))[-1]["data"]["data"]
    assert kept["pod"]["node"] == "node-3"
    assert kept["pod"]["containers"][0]["state"]["terminated"]["reason"] == "OOMKilled"
    assert "CUDA out of memory" in kept["log"]
    assert "hunter2" not in str(kept)
