"""What is left behind in a cluster is found; only what is ours and over is ended."""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from projections.decide import Observe
from projections.objects import part, uid_of
from projections.sighting import Gone
from service import orphans, sweeper
from service.errors import FencedError
from service.lease import Lease
from service.sweeper import Sweeper
from tests.cluster.clients import job_body
from tests.cluster.cluster import Cluster
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.objects import JOBS, SECRETS
from tests.conftest import StartService
from tests.http import Api
from tests.integration.test_metrics import scraped
from tests.polling import eventually

LOG = "epochlog.dev/log"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeper, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(orphans, "GRACE_SECONDS", 0.3)


@pytest_asyncio.fixture
async def unswept(start_service: StartService, cluster: Cluster, tmp_path: Path) -> Api:
    """A service that does not sweep before the test is over."""
    return await start_service(
        EPOCHLOG_EXECUTOR="kubernetes",
        KUBECONFIG=str(write_kubeconfig(tmp_path / "kubeconfig", one=cluster)),
        EPOCHLOG_KUBE_NAMESPACE=cluster.namespace,
        EPOCHLOG_RETRY_BACKOFF="0.1",
    )


@pytest.fixture
def api(soon: None, unswept: Api) -> Api:
    """A service that sweeps all the time."""
    return unswept


async def launched(api: Api, cluster: Cluster, **fields: Any) -> Any:
    """A job whose pod runs."""
    job = await api.create_job(**fields)
    name = f"train-{job['id']}"
    await eventually(lambda: there(cluster, JOBS, name))
    cluster.schedule(name)
    cluster.start(name)
    await until(api, job, "running")
    return job


async def until(api: Api, job: Any, *statuses: str) -> None:
    async def check() -> bool:
        return (await api.get(f"/v1/jobs/{job['id']}")).json["status"] in statuses

    await eventually(check)


def there(cluster: Cluster, kind: Any, name: str) -> bool:
    return cluster.store.find(kind, cluster.namespace, name) is not None


def forged(cluster: Cluster, like: str, name: str, **annotations: str) -> None:
    """A Job of another name with the labels of one that is there."""
    labels = dict(part(cluster.job(like), "metadata", "labels"))
    body = job_body(name, labels=labels)
    body["metadata"]["annotations"] = annotations
    cluster.add_job(body)


async def orphans_of(api: Api, job: Any) -> Any:
    found = await api.events(job, "evidence")
    return [event["data"]["data"] for event in found if event["data"]["kind"] == "orphan"]


async def told(api: Api, kind: str) -> float:
    sample = f"epochlog_cluster_orphans{{cluster=default,kind={kind}}}"
    return (await scraped(api)).get(sample, 0)


async def test_what_outlives_its_attempt_is_told_of_once_and_deleted(
    api: Api, cluster: Cluster
) -> None:
    job = await launched(api, cluster)
    name = f"train-{job['id']}"
    uid = uid_of(cluster.job(name))
    cluster.exits_on_sigterm = None
    cluster.faults.answer(500, times=1000, method="DELETE")
    await api.post(f"/v1/jobs/{job['id']}/cancel")
    await _given_up(api, job)

    async def is_told() -> Any:
        return await orphans_of(api, job)

    (orphan,) = await eventually(is_told)
    assert (orphan["kind"], orphan["name"], orphan["uid"]) == ("over", name, uid)
    assert await told(api, "over") == 1
    cluster.faults.clear()
    cluster.exits_on_sigterm = 143

    async def is_clean() -> bool:
        return not there(cluster, JOBS, name) and await told(api, "over") == 0

    await eventually(is_clean)
    assert len(await orphans_of(api, job)) == 1
    deletion = cluster.asked("delete", "jobs")[-1]
    assert name in deletion.path


async def test_who_leads_no_more_deletes_nothing(
    unswept: Api, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "GRACE_SECONDS", 0.0)
    job = await launched(unswept, cluster)
    cluster.faults.answer(500, times=1000, method="DELETE")
    await unswept.post(f"/v1/jobs/{job['id']}/cancel")
    await _given_up(unswept, job)
    instance = unswept.service.instance
    lease = Lease(term=instance.candidate.lease.term if instance.candidate.lease else 0, until=inf)
    sweeping = Sweeper(instance, lease)
    await sweeping.sweep()
    assert await orphans_of(unswept, job) == [], "one look is not enough"
    await sweeping.sweep()
    assert len(await orphans_of(unswept, job)) == 1
    assert len(cluster.asked("delete", "jobs")) > 0

    cluster.requests.clear()
    lease.lose()
    with pytest.raises(FencedError):
        await sweeping.sweep()
    assert cluster.asked("delete", "jobs") == []


async def _given_up(api: Api, job: Any) -> None:
    """Say in the log that the attempt was seen gone, as after a pod that is stuck."""
    command = Observe(attempt=1, sighting=Gone(message="Given up."))
    await api.service.instance.log.handle(job["id"], command)
    await until(api, job, "cancelled")


async def test_what_the_log_did_not_launch_is_told_of_and_left_alone(
    api: Api, cluster: Cluster
) -> None:
    job = await launched(api, cluster)
    ours = api.service.instance.executor.log_id
    forged(cluster, f"train-{job['id']}", "train-99", **{LOG: ours})
    forged(cluster, f"train-{job['id']}", "train-98", **{LOG: "another log"})
    forged(cluster, f"train-{job['id']}", "train-97")

    async def is_told() -> bool:
        return await told(api, "unknown") == 1

    await eventually(is_told)
    for name in ("train-97", "train-98", "train-99", f"train-{job['id']}"):
        assert there(cluster, JOBS, name)
    assert cluster.asked("delete", "jobs") == []


async def test_a_pod_that_was_left_behind_is_told_of(api: Api, cluster: Cluster) -> None:
    job = await launched(api, cluster)
    name = f"train-{job['id']}"
    cluster.delete_job(name, "Orphan")

    async def is_told() -> Any:
        return await orphans_of(api, job)

    (orphan,) = await eventually(is_told)
    assert orphan["kind"] == "pod"


async def test_the_token_of_an_attempt_goes_with_its_job(api: Api, cluster: Cluster) -> None:
    job = await launched(api, cluster, max_retries=0)
    name, secret = f"train-{job['id']}", f"callback-token-{job['id']}"
    await eventually(lambda: there(cluster, SECRETS, secret))
    cluster.exit(name, 1)
    await until(api, job, "failed")
    await eventually(lambda: len(api.service.instance.executor.finds()) == 1)
    await _swept(api)
    assert cluster.asked("delete", "secrets") == []
    cluster.delete_job(name, "Orphan")  # leaves the Secret without an owner
    await eventually(lambda: not there(cluster, SECRETS, secret))
    await _swept(api)
    assert len(cluster.asked("delete", "secrets")) == 1


async def _swept(api: Api, *, more: int = 2) -> None:
    """Wait until so many sweeps more are over: the first of them may have begun before."""
    before = (await scraped(api))["epochlog_cluster_sweeps_total"]

    async def again() -> bool:
        return (await scraped(api))["epochlog_cluster_sweeps_total"] >= before + more

    await eventually(again)
