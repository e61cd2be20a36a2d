"""The commands that are a service themselves, or work on its database without one."""

from __future__ import annotations

import gc
import sys

from rich.console import Console

from service.demo import demo as show_demo
from service.logs import configure_logs
from service.running import DONE, CommandError, complain
from service.serving import Serving, migrate_database
from service.serving import serve as serve_until_told
from service.settings import Settings

COLLECT_AFTER = (20_000, 20, 50)


async def serve(settings: Settings, console: Console) -> int:
    """Serve until told to stop."""
    configure_logs(settings.log_level)
    # What was imported stays: no collection looks at it again, and few are needed for the rest.
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)

    for doubt in settings.doubts():
        complain(f"Warning: {doubt}")

    def say(service: Serving) -> None:
        where = "EPOCHLOG_API_TOKEN" if settings.api_token else settings.state_dir / "api-token"
        line = f"Epochlog serves at {service.url} (API token: {where}); Ctrl-C stops it."
        console.print(line, soft_wrap=True)
        sys.stdout.flush()

    try:
        await serve_until_told(settings, say)
    except RuntimeError as error:
        raise CommandError(f"The service stopped: {error}.") from error
    return DONE


async def migrate(settings: Settings, console: Console) -> int:
    """Bring the database's schema up to date."""
    configure_logs("WARNING")
    applied = await migrate_database(settings)
    for step in applied:
        console.print(step, soft_wrap=True)
    if not applied:
        console.print("The schema is up to date.")
    return DONE


async def demo(_settings: Settings, console: Console, *, epochs: int, images: int) -> int:
    """Train a small real model end to end."""
    return await show_demo(console, epochs=epochs, images=images)
