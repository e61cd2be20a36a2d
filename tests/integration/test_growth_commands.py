"""`epochlog compact`, `archives` and `restore`, and the service that compacts by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.growth_commands import seconds_in
from tests.command_line import epochlog
from tests.conftest import SECRET_KEY, StartService
from tests.growth import EVENTS_A_RANGE, archive_files, rows, told, trained
from tests.http import Api
from tests.polling import eventually
from tests.s3 import CREDENTIALS, s3_server

Environ = dict[str, str]


@pytest.fixture
async def grown(start_service: StartService) -> Api:
    """A service whose log has two complete ranges."""
    api = await start_service(EPOCHLOG_PARTITION_EVENTS=str(EVENTS_A_RANGE))
    for ends in ("succeeded", "failed"):
        await trained(api, ends=ends)
    return api


@pytest.fixture
def environ(grown: Api, tmp_path: Path) -> Environ:
    """What a person's shell holds beside the service, whose tokens are taken for expired."""
    return {
        "EPOCHLOG_STATE_DIR": str(tmp_path / "elsewhere"),
        "EPOCHLOG_DATABASE_URL": str(grown.service.instance.settings.database_url),
        "EPOCHLOG_SECRET_KEY": SECRET_KEY,
        "EPOCHLOG_TOKEN_TTL": "0.01",
        "EPOCHLOG_TOKEN_RENEWAL": "0",
        "EPOCHLOG_ARCHIVE_URL": str(tmp_path / "archives"),
    }


async def test_the_whole_way_there_and_back(grown: Api, environ: Environ) -> None:
    jobs = [{"id": 1}, {"id": 2}]
    before, views = await rows(grown), [await told(grown, job) for job in jobs]

    dry = await epochlog("compact", "--older-than", "0s", "--dry-run", environ=environ)
    assert (dry.code, dry.err) == (0, "")
    assert "1-50: 50 events, " in dry.out
    assert "would stay" in dry.out
    assert await rows(grown) == before

    done = await epochlog("compact", "--older-than", "0s", "--json", environ=environ)
    assert (done.code, done.err) == (0, "")
    assert [one["range"] for one in done.json["ranges"]] == ["1-50", "51-100"]
    for one in done.json["ranges"]:
        assert one["events_after"] < one["events"] == one["archive"]["events"] == 50
        assert (one["roll_ups"] > 0, one["waiting"]) == (True, 0)
    assert [await told(grown, job) for job in jobs] == views
    again = await epochlog("compact", "--older-than", "0s", environ=environ)
    assert again.out == "No range is old enough that was not compacted yet.\n"
    verified = await epochlog("verify", environ=environ)
    assert (verified.code, verified.err) == (0, "")

    listed = await epochlog("archives", "--check", environ=environ)
    assert (listed.code, listed.err) == (0, "")
    assert "1-50" in listed.out
    shown = (await epochlog("archives", "--json", environ=environ)).json["archives"]
    assert [(one["range"], one["state"]) for one in shown] == [("1-50", "slim"), ("51-100", "slim")]

    one = await epochlog("restore", "51-100", environ=environ)
    assert (one.code, one.err) == (0, "")
    assert one.out.startswith("51-100: ")
    rest = await epochlog("restore", "--all", "--json", environ=environ)
    assert [back["range"] for back in rest.json["restored"]] == ["1-50"]
    assert await rows(grown) == before


async def test_a_damaged_archive_is_one_sentence(grown: Api, environ: Environ) -> None:
    assert (await epochlog("compact", "--older-than", "0s", environ=environ)).code == 0
    _cut(Path(environ["EPOCHLOG_ARCHIVE_URL"]))

    checked = await epochlog("archives", "--check", environ=environ)
    restored = await epochlog("restore", "--all", environ=environ)

    assert checked.failed_with("is not the file that was archived")
    assert restored.failed_with("is not the file that was archived")


def _cut(archive: Path) -> None:
    first = min(archive.rglob("*.gz"))
    first.write_bytes(first.read_bytes()[:-1])


async def test_another_key_does_not_restore(grown: Api, environ: Environ) -> None:
    first, second = "the first made-up key of this test", "another made-up key of this test"
    own = {**environ, "EPOCHLOG_SECRET_KEY": first}
    assert (await epochlog("compact", "--older-than", "0s", environ=own)).code == 0
    other = {**environ, "EPOCHLOG_SECRET_KEY": second}

    assert (await epochlog("restore", "--all", environ=other)).failed_with("does not bear our seal")
    old = {**other, "EPOCHLOG_SECRET_KEYS_OLD": first}
    assert (await epochlog("restore", "--all", environ=old)).code == 0


@pytest.mark.parametrize(
    ("words", "sentence", "code"),
    [
        (["restore", "7-9"], "There is no archived range 7-9", 1),
        (["restore"], "name the ranges to restore, or give --all", 2),
        (["restore", "1-50", "--all"], "name the ranges to restore, or give --all", 2),
        (["compact", "--older-than", "soon"], "needs a number with s, m, h, d or w behind it", 2),
    ],
)
async def test_wrong_words_are_named(
    environ: Environ, words: list[str], sentence: str, code: int
) -> None:
    ran = await epochlog(*words, environ=environ)

    assert (ran.code, ran.out) == (code, "")
    assert sentence in " ".join(ran.err.replace("│", " ").split())


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_a_bucket_keeps_the_archives(grown: Api, environ: Environ, tmp_path: Path) -> None:
    before = await rows(grown)
    bucket = tmp_path / "buckets" / "logs"
    bucket.mkdir(parents=True)
    with s3_server(bucket.parent) as endpoint:
        there = {
            **environ,
            **CREDENTIALS,
            "EPOCHLOG_ARCHIVE_URL": "s3://logs/epochlog",
            "EPOCHLOG_S3_ENDPOINT": endpoint,
        }
        done = await epochlog("compact", "--older-than", "0s", "--json", environ=there)
        assert (done.code, done.err) == (0, "")
        assert len(done.json["ranges"]) == 2
        assert await rows(grown) != before
        back = await epochlog("restore", "--all", environ=there)
        assert (back.code, back.err) == (0, "")
    assert await rows(grown) == before
    assert len(list(bucket.rglob("*.ndjson.gz"))) == 2
    away = await epochlog("compact", "--older-than", "0s", environ=there)
    assert away.failed_with("cannot be reached")


async def test_the_service_compacts_what_has_become_old(start_service: StartService) -> None:
    api = await start_service(
        EPOCHLOG_PARTITION_EVENTS=str(EVENTS_A_RANGE),
        EPOCHLOG_COMPACT_AFTER="0.5",
        EPOCHLOG_TOKEN_TTL="3",
        EPOCHLOG_TOKEN_RENEWAL="0",
    )
    jobs: list[Any] = [await trained(api), await trained(api, ends=None)]
    before = await told(api, jobs[0])

    async def slim() -> bool:
        states = await api.select("select state from log_archives")
        return [row["state"] for row in states] == ["slim", "slim"]

    await eventually(slim, within=30)

    assert await told(api, jobs[0]) == before
    assert len(archive_files(api)) == 4


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 30 * 86400), ("12h", 43200), ("90", 90), ("1.5m", 90), ("2w", 14 * 86400), ("0s", 0)],
)
def test_an_age_is_read(text: str, seconds: float) -> None:
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1d", "1y", "1 d 2 h", "1e9"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30d"):
        seconds_in(text)
