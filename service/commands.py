"""The commands that ask a service and print what it says; each returns its exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator

from rich.console import Console, RenderableType
from rich.text import Text

from service.answer_schemas import ExplainAnswer, JobAnswer, JobsAnswer, TimelineAnswer
from service.client import Client, ClientError, Json, read
from service.explain_page import explain_page
from service.page import print_json, print_page
from service.reaching import Reached, reach
from service.rendering import headline, job_page, jobs_table
from service.running import DONE, FAILED, complain
from service.settings import Settings
from service.timeline_page import timeline_page
from service.watching import INTERVAL, follow
from service.watching import watch as watch_job

PAGE = 500


async def submit(
    settings: Settings,
    console: Console,
    *,
    new: Json,
    key: str | None,
    watch: bool,
    as_json: bool,
) -> int:
    """Make a job."""
    async with reach(settings, reading=False) as service:
        job = await service.client.submit(new, key=key)
        if as_json:
            print_json(job)
            return DONE
        print_page(console, _submitted(job, watch=watch))
        return await _watched(service.client, job["id"], console) if watch else DONE


def _submitted(job: Json, *, watch: bool) -> Iterator[RenderableType]:
    yield headline(read(JobAnswer, job))
    if token := job.get("callback_token"):
        yield Text(f"callback token of attempt {job['attempt']}: {token}")
    if not watch:
        yield Text(f"epochlog watch {job['id']} shows it live.", style="dim")


async def jobs(
    settings: Settings,
    console: Console,
    *,
    status: str | None,
    labels: list[str],
    limit: int,
    everything: bool,
    as_of: str | None,
    as_json: bool,
) -> int:
    """List jobs."""
    async with reach(settings, reading=True) as service:
        wanted: Json = {"status": status, "labels": labels, "as_of": as_of}
        wanted["limit"] = PAGE if everything else limit
        page = await service.client.jobs(**wanted)
        while everything and page["next_cursor"]:
            more = await service.client.jobs(**wanted, cursor=page["next_cursor"])
            page = {**more, "jobs": page["jobs"] + more["jobs"]}
    return _show(console, page, as_json, lambda: jobs_table(read(JobsAnswer, page)))


async def status(
    settings: Settings,
    console: Console,
    *,
    job_id: int,
    as_of: str | None,
    view: str | None,
    as_json: bool,
) -> int:
    """Show a job."""
    async with reach(settings, reading=True) as service:
        job = await service.client.job(job_id, as_of, view)
    return _show(
        console,
        job,
        as_json,
        lambda: job_page(read(JobAnswer, job), console.width, past=bool(as_of)),
    )


async def timeline(
    settings: Settings,
    console: Console,
    *,
    job_id: int,
    as_of: str | None,
    view: str | None,
    as_json: bool,
) -> int:
    """Show a job's attempts and its story."""
    async with reach(settings, reading=True) as service:
        told = await service.client.timeline(job_id, as_of, view)
    return _show(
        console, told, as_json, lambda: timeline_page(read(TimelineAnswer, told), console.width)
    )


async def explain(
    settings: Settings,
    console: Console,
    *,
    job_id: int,
    as_of: str | None,
    view: str | None,
    as_json: bool,
) -> int:
    """Show why a job's status is what it is."""
    async with reach(settings, reading=True) as service:
        told = await service.client.explain(job_id, as_of, view)
    return _show(
        console,
        told,
        as_json,
        lambda: explain_page(job_id, read(ExplainAnswer, told), console.width, past=bool(as_of)),
    )


async def watch(settings: Settings, console: Console, *, job_id: int) -> int:
    """Show a job live until it is final."""
    async with reach(settings, reading=True) as service:
        await _refuse_to_wait(service, job_id)
        return await _watched(service.client, job_id, console)


async def logs(
    settings: Settings,
    _console: Console,
    *,
    job_id: int,
    attempt: int | None,
    tail: int | None,
    follows: bool,
) -> int:
    """Print what an attempt's process printed."""
    async with reach(settings, reading=True) as service:
        if follows:
            await _refuse_to_wait(service, job_id)
            await _follow_logs(service.client, job_id, attempt, tail)
        else:
            _print_raw(await service.client.logs(job_id, attempt=attempt, tail=tail))
    return DONE


async def cancel(
    settings: Settings,
    console: Console,
    *,
    job_id: int,
    reason: str | None,
    wait: bool,
    as_json: bool,
) -> int:
    """Ask for a job to be cancelled."""
    async with reach(settings, reading=False) as service:
        told = await service.client.cancel(job_id, reason)
        if as_json:
            print_json(told)
            return DONE
        job = read(JobAnswer, told)
        if wait:
            async for step in follow(service.client, job_id, complain):
                job = step.job
    console.print(headline(job), soft_wrap=True)
    if job.status.is_final:
        return DONE if job.status == "cancelled" else FAILED
    console.print("The cancel is requested; the trainer ends as soon as it hears of it.")
    return DONE


async def create_token(
    settings: Settings, console: Console, *, role: str, name: str | None, as_json: bool
) -> int:
    """Make an API token."""
    async with reach(settings, reading=True) as service:
        made = await service.client.create_token(role, name)
    if as_json:
        print_json(made)
        return DONE
    console.print(made["token"], soft_wrap=True)
    complain(f"This {role} token is shown only now; EPOCHLOG_API_TOKEN takes it.")
    return DONE


def _show(
    console: Console, answer: Json, as_json: bool, page: Callable[[], Iterator[RenderableType]]
) -> int:
    if as_json:
        print_json(answer)
    else:
        print_page(console, page())
    return DONE


async def _watched(client: Client, job_id: int, console: Console) -> int:
    job = await watch_job(client, job_id, console)
    console.print(headline(job), soft_wrap=True)
    return DONE if job.status == "succeeded" else FAILED


async def _refuse_to_wait(service: Reached, job_id: int) -> None:
    """Raise ClientError where waiting for a job's end would be in vain."""
    if service.drives:
        return
    job = read(JobAnswer, await service.client.job(job_id))
    if not job.status.is_final:
        raise ClientError(
            f"Job {job_id} is {job.status}, and no service runs that could bring it further;"
            " start it with `epochlog serve`.",
            status=200,
        )


async def _follow_logs(client: Client, job_id: int, attempt: int | None, tail: int | None) -> None:
    """Print the output as it grows, until the job is final."""
    seen, last = "", False
    while True:
        text = await _logs_or_nothing(client, job_id, attempt, tail)
        _print_raw(_new_part(seen, text))
        seen = text or seen
        if last:
            return
        job = read(JobAnswer, await client.job(job_id))
        last = job.status.is_final or bool(attempt and attempt < job.attempt)
        # The trainer prints on for a moment after its final word.
        await asyncio.sleep(2 * INTERVAL)


async def _logs_or_nothing(
    client: Client, job_id: int, attempt: int | None, tail: int | None
) -> str:
    try:
        return await client.logs(job_id, attempt=attempt, tail=tail)
    except ClientError as error:
        if error.status == 404 or error.may_pass:  # not started yet, or not now
            return ""
        raise


def _new_part(seen: str, text: str) -> str:
    """Return what of `text` comes after the end of what was seen; the window may have moved."""
    end = seen[-2000:]
    found = text.rfind(end) if end else 0
    return text[found + len(end) :] if found >= 0 else text


def _print_raw(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
