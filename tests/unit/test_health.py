import pytest

from projections.events import Heartbeat
from projections.health import Verdict, silent_seconds
from projections.policy import Moment
from tests.given import Given, a_running_job, a_submitted_job, an_external_job, at


def heartbeats(job: Given, *, until: float, every: float = 100) -> Given:
    """The trainer calls back and says nothing new."""
    while job.now + every <= until:
        job.hears(Heartbeat(), at=job.now + every)
    return job


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [(0, "healthy"), (299, "healthy"), (300, "silent"), (599, "silent")],
)
def test_silence_is_a_verdict_after_the_heartbeat_timeout(seconds: float, verdict: str) -> None:
    job = a_running_job()

    job.now = seconds

    assert job.health.verdict == verdict


def test_a_job_that_was_only_seen_alive_is_unknown_and_then_silent() -> None:
    job = a_submitted_job().alive(at=0)

    assert job.health.verdict is Verdict.UNKNOWN
    assert job.tick(at=300).health.verdict is Verdict.SILENT


@pytest.mark.parametrize(
    "job",
    [
        pytest.param(Given(), id="pending"),
        pytest.param(a_submitted_job(), id="queued"),
        pytest.param(a_running_job().done(), id="succeeded"),
        pytest.param(a_running_job().done("failed"), id="waits for a retry"),
    ],
)
def test_who_does_not_run_has_no_health(job: Given) -> None:
    job.now = 10_000

    assert job.health.verdict is Verdict.NOT_RUNNING


def test_heartbeats_without_an_advance_are_a_stall() -> None:
    job = heartbeats(a_running_job(), until=1700)
    assert job.health.verdict == "healthy"

    heartbeats(job, until=1800)

    assert job.health.verdict == "stalled"
    assert job.health.alive_at == at(1800)
    assert job.health.advanced_at is None


@pytest.mark.parametrize(
    "advance",
    [
        pytest.param(Heartbeat(epoch=1), id="a new epoch"),
        pytest.param(Heartbeat(epoch=1, batch=1), id="a new batch"),
        pytest.param(Heartbeat(progress=0.01), id="a larger fraction"),
    ],
)
def test_an_advance_ends_a_stall(advance: Heartbeat) -> None:
    job = heartbeats(a_running_job(), until=1800).hears(advance, at=1801)

    assert job.health.verdict is Verdict.HEALTHY
    assert job.health.advanced_at == at(1801)


def test_the_same_batch_again_is_no_advance() -> None:
    job = a_running_job().hears(Heartbeat(epoch=1, batch=5), at=10)

    job.hears(Heartbeat(epoch=1, batch=5, metrics={"loss": 1.0}), at=20)

    assert (job.health.alive_at, job.health.advanced_at) == (at(20), at(10))


def test_an_attempt_that_resumes_further_back_advances_by_its_own_count() -> None:
    job = a_running_job().hears(Heartbeat(epoch=8)).done("failed", at=100)

    job.submitted(at=130).alive().hears(Heartbeat(epoch=5), at=140)

    assert job.health.advanced_at == at(140)
    assert job.state.progress.epoch == 8


def test_silence_from_before_we_listened_proves_nothing() -> None:
    job = a_running_job()
    job.listening_since = 1000

    assert job.tick(at=1299).health.verdict is Verdict.UNKNOWN
    assert job.tick(at=1300).health.verdict is Verdict.SILENT


def test_an_executor_that_cannot_be_asked_outranks_silence() -> None:
    job = a_running_job()
    job.unreachable = True

    assert job.tick(at=900).health.verdict is Verdict.UNREACHABLE


def test_a_new_attempt_starts_with_clocks_of_its_own() -> None:
    job = a_running_job().hears(Heartbeat(epoch=1)).done("failed").submitted(at=30).alive()

    assert job.health.verdict is Verdict.UNKNOWN
    assert (job.health.alive_at, job.health.advanced_at) == (None, None)
    assert job.health.reachable_at == at(30)


def test_three_clocks_tell_apart_what_one_could_not() -> None:
    job = an_external_job().hears(Heartbeat(epoch=1), at=10).hears(Heartbeat(), at=20)

    health = job.health

    assert (health.alive_at, health.advanced_at, health.reachable_at) == (at(20), at(10), None)


def test_nothing_is_silent_before_it_could_have_spoken() -> None:
    assert silent_seconds(Given().state, Moment(now=at(10_000))) == 0.0


def test_a_service_that_has_just_come_back_does_not_call_a_silent_trainer_healthy() -> None:
    job = a_running_job().tick(at=300)
    assert job.health.verdict == "silent"

    job.listening_since = 390
    job.tick(at=400)

    assert job.health.verdict == "unknown"
    assert job.types().count("health_changed") == 1
    assert job.hears(Heartbeat(), at=401).health.verdict == "healthy"
    assert job.types().count("health_changed") == 2
