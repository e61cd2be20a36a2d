"""The Role of `deploy/` is all that it takes; and each verb that is missing is named."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from structlog.testing import capture_logs

from service import cluster_watch, orphans, sweeper
from tests.cluster.cluster import Cluster
from tests.cluster.kubeconfig import write_kubeconfig
from tests.cluster.objects import JOBS, SECRETS
from tests.conftest import StartService
from tests.http import Answer, Api
from tests.polling import eventually

MANIFEST = Path(__file__).parents[2] / "deploy/kubernetes/training/role.yaml"
ROLE = yaml.safe_load(MANIFEST.read_text())["rules"]
VERBS = {
    f"{verb} {resource}"
    for rule in ROLE
    for resource in rule["resources"]
    for verb in rule["verbs"]
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_watch, "FORBIDDEN_SECONDS", 0.3)
    monkeypatch.setattr(cluster_watch, "SHORTEST_WAIT", 0.02)
    monkeypatch.setattr(sweeper, "SWEEP_SECONDS", 0.1)
    monkeypatch.setattr(orphans, "GRACE_SECONDS", 1.0)


@dataclass(slots=True)
class Story:
    """A service that may do what the Role says, and its cluster."""

    api: Api
    cluster: Cluster
    token: str
    logged: list[Any]

    def take(self, wish: str) -> None:
        """Take one verb away, and let the service feel it at once."""
        verb, resource = wish.split()
        self.cluster.take_away(self.token, verb, resource)
        self.cluster.watches.cut_all()

    async def job(self, job: Any) -> Any:
        return (await self.api.get(f"/v1/jobs/{job['id']}")).json

    async def until(self, job: Any, status: str, reason: str | None = None) -> Any:
        async def check() -> Any:
            now = await self.job(job)
            assert (now["status"], reason and now["reason"]["code"]) == (status, reason), now
            return now

        return await eventually(check)

    async def launched(self, job: Any, attempt: int = 1) -> str:
        """Wait for the attempt's Job and let its pod run; its name."""
        name = f"train-{job['id']}" + (f"-{attempt}" if attempt > 1 else "")
        await eventually(lambda: self.cluster.store.find(JOBS, self.cluster.namespace, name))
        self.cluster.schedule(name)
        self.cluster.start(name)
        return name

    async def ready(self) -> Answer:
        return await self.api.call("GET", "/readyz", token="")

    async def named(self, wish: str) -> None:
        """Wait until both the log and /readyz name what is missing, and nothing else."""

        async def check() -> bool:
            answer = await self.ready()
            assert answer.status == 200
            problems = answer.json["problems"]
            assert answer.json["status"] == "degraded"
            assert set(problems) - {"default"} == {f"default: {wish}"}, problems
            verb, resource = wish.split()
            assert f'cannot {verb} resource "{resource}"' in problems[f"default: {wish}"]
            return True

        await eventually(check)
        assert [one["wish"] for one in self.logged if one["event"] == "forbidden"] == [wish]

    async def evidence(self, job: Any) -> list[Any]:
        found = await self.api.events(job, "evidence")
        return [one["data"]["data"] for one in found if one["data"]["kind"] == "pod"]

    async def events(self, job: Any) -> list[str]:
        return [one["type"] for one in await self.api.events(job)]


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as logged:
        yield logged


@pytest_asyncio.fixture
async def story(
    start_service: StartService, cluster: Cluster, tmp_path: Path, logged: list[Any]
) -> AsyncIterator[Story]:
    cluster.exits_on_sigterm = 143
    token = cluster.give_role(ROLE)
    api = await start_service(
        EPOCHLOG_EXECUTOR="kubernetes",
        KUBECONFIG=str(write_kubeconfig(tmp_path / "kubeconfig", token=token, one=cluster)),
        EPOCHLOG_KUBE_NAMESPACE=cluster.namespace,
        EPOCHLOG_RETRY_BACKOFF="0.1",
        EPOCHLOG_CANCEL_GRACE="0.1",
        EPOCHLOG_STOP_GRACE="0.3",
        EPOCHLOG_HEARTBEAT_TIMEOUT="600",
    )
    story = Story(api, cluster, token, logged)

    async def follows() -> bool:
        return bool((await story.ready()).json["status"] == "ok")

    await eventually(follows)
    yield story


async def test_with_the_role_alone_everything_works(story: Story) -> None:
    job = await story.api.create_job()
    first = await story.launched(job)
    await story.until(job, "running")
    story.cluster.log(first, "epoch 1\nepoch 2\n")
    logs = await story.api.get(f"/v1/jobs/{job['id']}/logs")
    assert "epoch 2" in logs.text
    story.cluster.out_of_memory(first)
    await story.launched(job, 2)
    await story.until(job, "running")
    assert any("epoch 2" in one.get("log", ()) for one in await story.evidence(job))
    await story.api.post(f"/v1/jobs/{job['id']}/cancel")
    await story.until(job, "cancelled")
    story.cluster.expire_ttl(first)
    await eventually(lambda: len(story.cluster.asked("delete", "secrets")) == 2)

    ready = (await story.ready()).json
    assert (ready["status"], ready["problems"], ready["leads"]) == ("ok", {}, True)
    assert 0 <= ready["clusters"]["default"]["heard_seconds_ago"] < 60
    assert [one for one in story.logged if one["event"] == "forbidden"] == []
    used = {f"{one.verb} {one.resource}" for one in story.cluster.requests}
    assert used <= VERBS
    assert VERBS - used <= {"get pods"}, "no more is asked for than is used"


@pytest.mark.parametrize("wish", ["create jobs", "create secrets"])
async def test_what_may_not_be_made_holds_the_job_until_it_may(story: Story, wish: str) -> None:
    story.take(wish)
    job = await story.api.create_job()
    held = await story.until(job, "queued", "forbidden")
    verb, resource = wish.split()
    assert f'cannot {verb} resource "{resource}"' in held["reason"]["message"]
    await story.named(wish)
    assert story.cluster.store.find(JOBS, "training", f"train-{job['id']}") is None


@pytest.mark.parametrize("wish", ["list jobs", "list pods"])
async def test_what_may_not_be_listed_makes_running_jobs_unreachable(
    story: Story, wish: str
) -> None:
    job = await story.api.create_job()
    await story.launched(job)
    await story.until(job, "running")
    story.take(wish)
    await story.named(wish)

    async def unreachable() -> bool:
        return bool((await story.job(job))["health"]["verdict"] == "unreachable")

    await eventually(unreachable)
    assert (await story.job(job))["status"] == "running"
    story.cluster.access.add(
        story.token, "system:serviceaccount:training:epochlog", "training", ROLE
    )

    async def well() -> bool:
        shown, ready = await story.job(job), await story.ready()
        return bool(shown["health"]["verdict"] != "unreachable" and ready.json["status"] == "ok")

    await eventually(well)


@pytest.mark.parametrize("wish", ["watch jobs", "watch pods"])
async def test_what_may_not_be_watched_is_seen_late(story: Story, wish: str) -> None:
    story.take(wish)
    await story.named(wish)
    job = await story.api.create_job(max_retries=0)
    name = await story.launched(job)
    await story.until(job, "running")
    story.cluster.exit(name, 1)
    await story.until(job, "failed")
    await story.named(wish)


async def test_what_may_not_be_deleted_is_not_taken_for_gone(story: Story) -> None:
    job = await story.api.create_job()
    name = await story.launched(job)
    await story.until(job, "running")
    story.take("delete jobs")
    await story.api.post(f"/v1/jobs/{job['id']}/cancel")
    await story.named("delete jobs")
    assert story.cluster.store.find(JOBS, "training", name) is not None
    assert (await story.job(job))["cancel_requested"] is True


async def test_a_job_that_may_not_be_asked_for_is_not_taken_for_vanished(story: Story) -> None:
    job = await story.api.create_job()
    name = await story.launched(job)
    await story.until(job, "running")
    story.take("get jobs")
    story.cluster.delete_job(name)
    await story.named("get jobs")
    assert (await story.job(job))["status"] == "running"


@pytest.mark.parametrize("wish", ["get pods/log", "list events"])
async def test_what_may_not_be_read_is_missing_from_the_evidence(story: Story, wish: str) -> None:
    job = await story.api.create_job(max_retries=0)
    name = await story.launched(job)
    await story.until(job, "running")
    story.cluster.log(name, "out of memory soon\n")
    story.take(wish)
    story.cluster.out_of_memory(name)
    await story.until(job, "failed", "oom_killed")
    last = (await story.evidence(job))[-1]
    assert ("log" in last, "events" in last) == (wish != "get pods/log", wish != "list events")
    await story.named(wish)
    assert (await story.ready()).status == 200


async def test_a_job_without_a_pod_says_why_only_where_events_may_be_listed(story: Story) -> None:
    story.take("list events")
    story.cluster.quota_blocks("exceeded quota: gpus")
    job = await story.api.create_job()
    await eventually(lambda: story.cluster.asked("list", "events"))
    await story.named("list events")
    assert (await story.job(job))["reason"]["code"] != "pod_create_blocked"


async def test_a_token_that_may_not_be_deleted_stays(story: Story) -> None:
    story.take("delete secrets")
    job = await story.api.create_job(max_retries=0)
    name = await story.launched(job)
    await story.until(job, "running")
    story.cluster.exit(name, 1)
    await story.until(job, "failed")
    swept = story.api.service.instance.metrics

    def seen() -> bool:
        return (swept.registry.get_sample_value("epochlog_cluster_sweeps_total") or 0) > 3

    await eventually(seen)
    story.cluster.delete_job(name, "Orphan")
    await story.named("delete secrets")
    secret = f"callback-token-{job['id']}"
    assert story.cluster.store.find(SECRETS, "training", secret) is not None
