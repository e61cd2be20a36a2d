from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainer.client import REQUIRED, epochlog_run
from trainer.errors import ConfigurationError

WHAT_IS_LOADED = """
import sys
import trainer.client
for name, module in sorted(sys.modules.items()):
    if "." not in name and "site-packages" in (getattr(module, "__file__", None) or ""):
        print(name)
"""
# What requests brings along; the second is how some environments find editable packages.
OF_REQUESTS = {"certifi", "charset_normalizer", "chardet", "idna", "requests", "urllib3"}


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in REQUIRED:
        monkeypatch.delenv(name, raising=False)


def test_it_loads_requests_and_nothing_else_that_is_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WHAT_IS_LOADED],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    loaded = {name for name in done.stdout.split() if not name.startswith("_")}
    assert "requests" in loaded
    assert loaded <= OF_REQUESTS


def test_without_an_environment_it_says_what_is_missing_and_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match=r"JOB_ID.*CALLBACK_TOKEN.*optional=True"):
        epochlog_run()


def test_an_optional_run_takes_everything_and_says_nothing() -> None:
    with epochlog_run(optional=True) as run:
        run.heartbeat(epoch=1, epochs=2, progress=0.5, metrics={"loss": 1})
        run.epoch_end(1)
        run.checkpoint_saved(1, "s3://bucket/last.pt")
        run.artifact("model.pt", "s3://bucket/model.pt")
        run.watch_gpu("GPU-1")
        run.check()
        run.succeed()
        assert not run.should_stop
        assert run.resume_from is None
        assert run.trace_id == ""


def test_an_optional_run_leaves_errors_alone() -> None:
    error = KeyError()

    with pytest.raises(KeyError) as raised, epochlog_run(optional=True):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"epoch": 1.5}, r"epoch must be a whole number, not 1\.5"),
        ({"batch": -1}, "batch must be 0 or more"),
        ({"progress": 20}, "progress must be from 0 to 1, not 20"),
        ({"metrics": {"loss": "low"}}, "The metric loss must be one number, not 'low'"),
        ({"metrics": {"loss": [1, 2]}}, "The metric loss must be one number"),
        ({"note": object()}, "not JSON serializable"),
        ({"note": float("nan")}, "not JSON compliant"),
    ],
)
def test_what_is_wrong_is_wrong_by_hand_too_and_named(said: dict[str, object], words: str) -> None:
    with (
        pytest.raises((TypeError, ValueError), match=words),
        epochlog_run(optional=True) as run,
    ):
        run.heartbeat(**said)  # type: ignore[arg-type]


def test_a_run_reports_inside_its_block_only() -> None:
    run = epochlog_run(optional=True)

    for say in (run.heartbeat, lambda: run.past):
        with pytest.raises(RuntimeError, match="inside its `with` block"):
            say()
    with run:
        run.heartbeat()
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        run.epoch_end(1)
