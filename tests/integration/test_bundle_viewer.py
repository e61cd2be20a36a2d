"""The viewer of a bundle in a real browser: opened from disk, steered by mouse and keys.

It needs a Chromium on the machine (Debian: `apt-get install chromium`). Without one these tests are
skipped, and nothing else is.
"""

from __future__ import annotations

import gzip
import re
import shutil
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Literal
from zipfile import ZipFile

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from projections.events import Created, Evidence, Heartbeat, Source, TrainerEvent
from projections.policy import Moment
from projections.status import fold
from service.packing import Packing
from service.viewing import viewer_page
from tests.given import POLICY, Given, at
from tests.http import Api
from tests.incidents import MARKUP

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine: `apt-get install chromium` brings one"
)


@pytest_asyncio.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox"],  # tests may run as root
        )
        yield launched
        await launched.close()


@pytest.fixture(scope="module")
def job() -> Given:
    """A job that fails once, goes on silently for a while, succeeds, and is full of markup."""
    created = Created(
        dataset_id="coco8", model_name="yolo11n", epochs=4, labels={"note": MARKUP, "n": "1"}
    )
    job = Given(created).submitted(at=4).alive(at=9)
    _train(job, 1, 2, start=20)
    evidence = Evidence(kind="log_tail", data={"lines": ["starting", MARKUP]})
    job.holds(evidence, source=Source.WATCHER)
    job.gone(1, at=100).tick(at=103).submitted(at=140).alive(at=145)
    job.hears(Heartbeat(epoch=9), at=146, attempt=1)
    _train(job, 3, 3, start=150)
    job.tick(at=500)
    _train(job, 4, 4, start=520)
    return job.done("succeeded", at=560).hears(Heartbeat(epoch=4), at=561)


def _train(job: Given, first: int, last: int, *, start: float) -> None:
    for number, epoch in enumerate(range(first, last + 1)):
        at = start + 30 * number
        job.hears(Heartbeat(epoch=epoch, batch=5, batches=10, metrics={"loss": 1 / epoch}), at=at)
        ended = {"epoch": epoch, "metrics": {"mAP50": 0.2 * epoch, "train/loss": 1 / epoch}}
        job.hears(TrainerEvent(type="epoch_end", data=ended), at=at + 20)
        saved = {"epoch": epoch, "uri": f"s3://bucket/{epoch}.pt"}
        job.hears(TrainerEvent(type="checkpoint_saved", data=saved), at=at + 21)


@pytest.fixture(scope="module")
def page_of(job: Given) -> bytes:
    """The page of that job's bundle."""
    return _page_of(job)


def _page_of(job: Given) -> bytes:
    with Packing(POLICY) as making:
        making.add(job.records)
        making.add_log(1, f"epoch 1\n{MARKUP}\nAuthorization: Bearer 0123456789abcdef\n")
        now = at(600)
        log_id = "0199a6f0-1111-7222-8333-444455556666"
        with making.finish(log_id=log_id, exported_at=now, moment=Moment(now=now)) as file:
            return ZipFile(BytesIO(file.read())).read("index.html")


@asynccontextmanager
async def opened(
    browser: Browser,
    html: bytes,
    folder: Path,
    *,
    width: int = 1200,
    scheme: Literal["light", "dark"] = "light",
) -> AsyncIterator[Page]:
    """Open the page from disk; fail unless it complains of nothing and asks for nothing else."""
    path = folder / "index.html"
    path.write_bytes(html)
    context = await browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    page = await context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(path.as_uri())
    await expect(page.locator("#content")).to_be_visible()
    yield page
    assert complaints == []
    assert asked == [path.as_uri()]
    await context.close()


async def test_it_shows_the_job_from_disk(browser: Browser, page_of: bytes, tmp_path: Path) -> None:
    async with opened(browser, page_of, tmp_path) as page:
        await expect(page).to_have_title("Job 7 · succeeded · Epochlog")
        await expect(page.locator("#job-status")).to_have_text("succeeded")
        await expect(page.locator("#why")).to_contain_text("The trainer reported success.")
        await expect(page.locator("#why")).to_contain_text("stale_attempt")
        await expect(page.locator("#facts")).to_contain_text("epoch 4 of 4")
        gantt = page.locator("svg.gantt")
        await expect(gantt).to_contain_text("Attempt 1: failed (exit_nonzero)")
        await expect(gantt.locator(".epoch")).to_have_count(4)
        await expect(gantt.locator(".checkpoint")).to_have_count(4)
        await expect(gantt.locator(".alarm-line")).to_have_count(1)
        await expect(page.locator("svg.chart .dot")).to_have_count(4)
        await page.locator("#metric").select_option("train/loss")
        await expect(page.locator("svg.chart")).to_contain_text(
            "attempt 1, epoch 2: train/loss 0.5"
        )
        await expect(page.locator("#events-body")).to_contain_text("Epoch 3 complete")
        await expect(page.locator("#evidence")).to_contain_text("starting")
        await page.get_by_text("Output of attempt 1").click()
        await expect(page.locator("#evidence")).to_contain_text("Bearer [redacted]")


async def test_it_shows_what_was_trained_again_dropped_and_why_it_failed(
    browser: Browser, tmp_path: Path
) -> None:
    job = Given(Created(dataset_id="coco8", model_name="yolo11n", epochs=4, max_retries=1))
    for attempt, first in ((1, 1), (2, 2)):
        _train(job, first, 3, start=100.0 * attempt)
        dropped = {"seqs": [[7, 8]], "count": 2, "why": "thinned"}
        job.hears(TrainerEvent(type="callbacks_dropped", data=dropped))
        said = {"exception": "E: x", "lines": [f"in line {attempt}", MARKUP]}
        job.hears(TrainerEvent(type="traceback", data=said)).done("failed", code="error")

    async with opened(browser, _page_of(job), tmp_path) as page:
        why = page.locator("#why")
        await expect(why).to_contain_text("Attempt 2 failed at the end of epoch 3: E: x")
        await expect(why.locator("pre")).to_have_text(f"in line 2\n{MARKUP}")
        await expect(page.locator("#facts")).to_contain_text(
            "2; 1 of 1 retry used, 0 interruptions"
        )
        await expect(page.locator("#timeline-body")).to_contain_text(
            "Epochs that a later attempt trained again: 2, 3"
        )
        await expect(page.locator("svg.gantt .epoch")).to_have_count(5)
        await expect(page.locator("svg.chart .dot")).to_have_count(3)
        await expect(page.locator("#events-body")).to_contain_text(
            "The trainer dropped 2 timed heartbeats: its outbox was full"
        )
        first_failure = job.positions("retry_scheduled")[0]
        version = next(one.version for one in job.records if one.position == first_failure)
        await page.locator("#as-of").fill(str(version - 1))
        await expect(page.locator("#as-of-text")).to_contain_text(f"As of version {version} of")
        await expect(why.locator("pre")).to_have_text(f"in line 1\n{MARKUP}")
        await expect(page.locator("svg.chart .dot")).to_have_count(3)


async def test_the_phases_are_drawn_to_scale(
    browser: Browser, page_of: bytes, job: Given, tmp_path: Path
) -> None:
    async with opened(browser, page_of, tmp_path) as page:
        bars = page.locator("svg.gantt .phase")
        widths = [float(await bar.get_attribute("width") or 0) for bar in await bars.all()]

    phases = [phase for attempt in job.told().attempts for phase in attempt.phases]
    whole = 560.0
    assert len(widths) == len(phases)
    scale = sum(widths) / sum(phase["seconds"] for phase in phases)
    for width, phase in zip(widths, phases, strict=True):
        assert width == pytest.approx(max(2, phase["seconds"] * scale), abs=whole * 0.01)


async def test_the_browser_checks_the_chain(
    browser: Browser, page_of: bytes, job: Given, tmp_path: Path
) -> None:
    async with opened(browser, page_of, tmp_path) as page:
        chain = page.locator("#chain")
        await expect(chain).to_have_class("chain good")
        await expect(chain).to_contain_text(f"Checked in this browser: {len(job.records)} events")
        await expect(page.locator("#proof")).to_contain_text(job.records[-1].hash)


@pytest.mark.parametrize(
    ("what", "instead", "told"),
    [
        (b'"epoch":2', b'"epoch":3', "broken at version 7"),
        (b'{"attempt":1', b'{"attempt":3', "broken at version 1"),
    ],
)
async def test_an_altered_event_is_named(
    browser: Browser, page_of: bytes, tmp_path: Path, what: bytes, instead: bytes, told: str
) -> None:
    found = re.findall(rb'id="data-(\w+)">(.*?)</script>', page_of)
    blocks = {name.decode(): gzip.decompress(b64decode(data)) for name, data in found}
    blocks["events"] = blocks["events"].replace(what, instead, 1)
    html = b"".join(viewer_page({name: [data] for name, data in blocks.items()}))

    async with opened(browser, html, tmp_path) as page:
        await expect(page.locator("#chain")).to_have_class("chain bad")
        await expect(page.locator("#chain")).to_contain_text(told)


async def test_the_slider_goes_back_to_what_had_been_recorded(
    browser: Browser, page_of: bytes, job: Given, tmp_path: Path
) -> None:
    async with opened(browser, page_of, tmp_path) as page:
        slider = page.locator("#as-of")
        await slider.focus()
        await page.keyboard.press("Home")
        for number in range(1, len(job.records) + 1):
            state = fold(job.records[:number])
            shown = page.locator("#as-of-text")
            whole = number == len(job.records)
            await expect(shown).to_contain_text(
                f"All {number} versions" if whole else f"As of version {number} of"
            )
            await expect(page.locator("#job-status")).to_have_text(state.status.value)
            await expect(page.locator(".reason code")).to_have_text(state.reason.code)
            await expect(page.locator("#events-body > tr")).to_have_count(number)
            await page.keyboard.press("ArrowRight")
        await page.locator("#to-first").click()
        await expect(page.locator("#epochs")).to_contain_text("No epoch was complete by then.")
        await expect(page.locator("#events-count")).to_contain_text("recorded later")


async def test_events_are_found_and_opened_by_keyboard(
    browser: Browser, page_of: bytes, job: Given, tmp_path: Path
) -> None:
    async with opened(browser, page_of, tmp_path) as page:
        rows = page.locator("#events-body > tr")
        await page.locator("#event-type").select_option("heartbeat")
        await expect(rows).to_have_count(len(job.positions("heartbeat")))
        await page.locator("#event-aside").check()
        await expect(rows).to_have_count(2)
        await page.locator("#event-aside").uncheck()
        await page.locator("#event-type").select_option("")
        await page.locator("#event-text").fill("S3://BUCKET/3")
        await expect(rows).to_have_count(1)

        await rows.locator("button").focus()
        await page.keyboard.press("Enter")
        record = next(one for one in job.records if "/3.pt" in str(one.stored or one.event))
        await expect(page.locator("tr.details")).to_contain_text(record.hash)
        await expect(page.locator("tr.details pre").first).to_contain_text('"s3://bucket/3.pt"')
        await page.get_by_text("Show everything as of this event").click()
        await expect(page.locator("#as-of-text")).to_contain_text(
            f"As of version {record.version} "
        )

        await page.locator("#to-last").click()
        await page.locator("#why").get_by_role("button", name=f"#{len(job.records)}").click()
        await expect(page.locator(f"#event-{len(job.records)}")).to_be_in_viewport()
        await expect(rows).to_have_count(len(job.records) + 2)


async def test_what_others_wrote_is_text_and_nothing_more(
    browser: Browser, page_of: bytes, tmp_path: Path
) -> None:
    async with opened(browser, page_of, tmp_path) as page:
        await expect(page.locator("#facts")).to_contain_text(MARKUP)
        await expect(page.locator("#evidence pre").first).to_contain_text(MARKUP)
        await page.locator("#events-body > tr button").first.click()
        await expect(page.locator("tr.details")).to_contain_text("</script>")
        assert await page.locator("img").count() == 0
        await expect(page).to_have_title("Job 7 · succeeded · Epochlog")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_telephone_by_day_and_by_night(
    browser: Browser, page_of: bytes, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    async with opened(browser, page_of, tmp_path, width=400, scheme=scheme) as page:
        wide = await page.evaluate("document.documentElement.scrollWidth")
        dark = "getComputedStyle(document.body).backgroundColor"
        colours = [await page.evaluate(dark)]
        for theme in ("light", "dark"):
            await page.locator("#theme").click()
            await expect(page.locator("#theme")).to_have_text(f"Theme: {theme}")
            colours.append(await page.evaluate(dark))

    assert wide == 400
    by_day, by_night = "rgb(244, 246, 249)", "rgb(14, 18, 23)"
    assert colours == [by_day if scheme == "light" else by_night, by_day, by_night]


async def test_the_bundle_of_a_real_service_opens(
    browser: Browser, api: Api, tmp_path: Path
) -> None:
    made = await api.create_job(labels={"note": MARKUP})
    for epoch in (1, 2):
        await api.call_back(made, "heartbeat", {"epoch": epoch, "metrics": {MARKUP: 1e-300}})
    await api.call_back(made, "event", {"type": MARKUP, "data": {MARKUP: [2**63, MARKUP]}})
    error = {"code": "broken", "message": MARKUP, "retryable": False}
    await api.call_back(made, "done", {"status": "failed", "error": error})
    answer = await api.get(f"/v1/jobs/{made['id']}/export")
    html = ZipFile(BytesIO(answer.content)).read("index.html")

    async with opened(browser, html, tmp_path) as page:
        await expect(page.locator("#job-status")).to_have_text("failed")
        await expect(page.locator(".reason")).to_contain_text(MARKUP)
        await expect(page.locator("svg.chart")).to_contain_text(MARKUP)
        await expect(page.locator("#chain")).to_have_class("chain good")
        assert await page.locator("img").count() == 0
