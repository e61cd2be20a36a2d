"""The routes of the fleet: all of it at a moment, and what changed between two."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from service.as_of import AsOf, moment_in, resolve
from service.errors import FieldError, InvalidRequestError
from service.fleet import Fleet, Standing, changes_between, fleet_at, fleet_now
from service.records import Row
from service.request_schemas import FleetDiffQuery, FleetQuery
from service.routing import Call, Reply


async def fleet(call: Call[None, FleetQuery]) -> Reply:
    """Count all jobs, and show each that was not final, now or as of a moment."""
    instance, asked = call.instance, call.query.as_of
    then = await resolve(instance.store, moment_in(asked)) if asked is not None else None
    if then is not None and then.is_past:
        return Reply(payload=_fleet_view(then, await fleet_at(instance.database, then.position)))
    return Reply(payload=_fleet_view(*await fleet_now(instance)))


async def fleet_diff(call: Call[None, FleetDiffQuery]) -> Reply:
    """Show each job that changed between two moments, with both sides, as they were recorded."""
    store, query = call.instance.store, call.query
    since = moment_in(query.from_, "from")
    until = moment_in(query.to, "to") if query.to is not None else None
    begin, end = await resolve(store, since), await resolve(store, until)
    if begin.position > end.position or _is_later(since, until):
        wanted = FieldError("from", "must not be after to")
        raise InvalidRequestError(f"from {wanted.message}.", errors=[wanted])
    changes = await changes_between(call.instance.database, begin.position, end.position)
    return Reply(
        payload={
            "from": _moment_view(begin),
            "to": _moment_view(end),
            "jobs": [_change_view(row) for row in changes],
        }
    )


def _is_later(since: int | datetime, until: int | datetime | None) -> bool:
    """Return whether two positions, or two times, are the wrong way round."""
    match since, until:
        case (int(begin), int(end)):
            return begin > end
        case (datetime() as begin, datetime() as end):
            return begin > end
        case _:
            return False


def _fleet_view(then: AsOf, fleet: Fleet) -> dict[str, Any]:
    return {
        "as_of": _moment_view(then),
        "counts": fleet.counts,
        "jobs": [_standing_view(standing) for standing in fleet.jobs],
    }


def _moment_view(then: AsOf) -> dict[str, Any]:
    return {"position": then.position, "time": then.time}


def _standing_view(standing: Standing) -> dict[str, Any]:
    state = standing.state
    return {
        "id": state.id,
        "status": state.status,
        "reason": state.reason,
        "trace_id": state.trace_id,
        "attempt": state.attempt,
        "dataset_id": state.dataset_id,
        "model_name": state.model_name,
        "labels": state.labels,
        "progress": state.progress,
        "health": {"verdict": standing.verdict, "alive_at": state.alive_at},
        "created_at": state.created_at,
        "since": standing.since,
        "version": state.version,
        "position": state.position,
    }


def _change_view(row: Row) -> dict[str, Any]:
    before = _side(row, "_before") if row["status_before"] is not None else None
    return {"id": row["job_id"], "from": before, "to": _side(row, "")}


def _side(row: Row, suffix: str) -> dict[str, Any]:
    return {
        "status": row[f"status{suffix}"],
        "reason": {
            "code": row[f"reason_code{suffix}"],
            "message": row[f"reason_message{suffix}"],
        },
        "attempt": row[f"attempt{suffix}"],
        "health": {"verdict": row[f"verdict{suffix}"]},
        "since": row[f"since{suffix}"],
    }
