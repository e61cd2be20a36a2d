"""The commands that show the fleet: at a moment, and between two."""

from __future__ import annotations

from rich.console import Console

from service.answer_schemas import FleetAnswer, FleetDiffAnswer
from service.client import read
from service.fleet_page import fleet_diff_page, fleet_page
from service.page import print_json, print_page
from service.reaching import reach
from service.running import DONE
from service.settings import Settings


async def fleet(settings: Settings, console: Console, *, as_of: str | None, as_json: bool) -> int:
    """Show how many jobs had each status, and every job that was not final."""
    async with reach(settings, reading=True) as service:
        told = await service.client.fleet(as_of)
    if as_json:
        print_json(told)
    else:
        print_page(console, fleet_page(read(FleetAnswer, told)))
    return DONE


async def fleet_diff(
    settings: Settings, console: Console, *, begin: str, end: str | None, as_json: bool
) -> int:
    """Show each job that changed between two moments."""
    async with reach(settings, reading=True) as service:
        told = await service.client.fleet_diff(begin, end)
    if as_json:
        print_json(told)
    else:
        print_page(console, fleet_diff_page(read(FleetDiffAnswer, told)))
    return DONE
