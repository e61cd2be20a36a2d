"""Every route of the API, in one table: the application and the OpenAPI document are made of it."""

from __future__ import annotations

from typing import Any

from service import callbacks_api, jobs_api, probes
from service.answer_schemas import (
    ApiTokenAnswer,
    CallbackAnswer,
    CallbacksAnswer,
    CallbackTokenAnswer,
    EventsAnswer,
    ExplainAnswer,
    HealthzAnswer,
    JobAnswer,
    JobsAnswer,
    NewJobAnswer,
    TimelineAnswer,
)
from service.api_tokens import Role
from service.request_schemas import (
    AsOfQuery,
    CallbacksBody,
    CancelRequest,
    DoneBody,
    EventBody,
    EventsQuery,
    HeartbeatBody,
    JobsQuery,
    LogsQuery,
    NewApiTokenRequest,
    NewJob,
)
from service.routing import Route

JOBS: tuple[Route[Any, Any], ...] = (
    Route(
        method="POST",
        path="/v1/jobs",
        handler=jobs_api.create_job,
        summary="Make a job. The header Idempotency-Key makes it safe to send twice.",
        access=Role.OPERATOR,
        body=NewJob,
        answer=NewJobAnswer,
        statuses=(201, 200),
        errors=(409,),
    ),
    Route(
        method="GET",
        path="/v1/jobs",
        handler=jobs_api.list_jobs,
        summary="List jobs, newest first.",
        access=Role.VIEWER,
        query=JobsQuery,
        answer=JobsAnswer,
    ),
    Route(
        method="GET",
        path="/v1/jobs/{id}",
        handler=jobs_api.get_job,
        summary="Show a job, now or as of a moment.",
        access=Role.VIEWER,
        query=AsOfQuery,
        answer=JobAnswer,
        errors=(404,),
    ),
    Route(
        method="POST",
        path="/v1/jobs/{id}/cancel",
        handler=jobs_api.cancel_job,
        summary="Ask for a job to be cancelled.",
        access=Role.OPERATOR,
        body=CancelRequest,
        answer=JobAnswer,
        statuses=(202,),
        errors=(404, 409),
        tolerant_body=True,
    ),
    Route(
        method="POST",
        path="/v1/jobs/{id}/token",
        handler=jobs_api.issue_token,
        summary="Issue a callback token for the current attempt.",
        access=Role.OPERATOR,
        answer=CallbackTokenAnswer,
        errors=(404, 409),
    ),
    Route(
        method="GET",
        path="/v1/jobs/{id}/events",
        handler=jobs_api.list_events,
        summary="List a job's events in version order.",
        access=Role.VIEWER,
        query=EventsQuery,
        answer=EventsAnswer,
        errors=(404,),
    ),
    Route(
        method="GET",
        path="/v1/jobs/{id}/timeline",
        handler=jobs_api.timeline,
        summary="Show a job's attempts, phases, epochs and story.",
        access=Role.VIEWER,
        query=AsOfQuery,
        answer=TimelineAnswer,
        errors=(404,),
    ),
    Route(
        method="GET",
        path="/v1/jobs/{id}/explain",
        handler=jobs_api.explain,
        summary="Show the events and the rule behind a job's status, and what did not count.",
        access=Role.VIEWER,
        query=AsOfQuery,
        answer=ExplainAnswer,
        errors=(404,),
    ),
    Route(
        method="GET",
        path="/v1/jobs/{id}/logs",
        handler=jobs_api.logs,
        summary="Show what an attempt's process printed, as text.",
        access=Role.VIEWER,
        query=LogsQuery,
        errors=(404,),
    ),
    Route(
        method="POST",
        path="/v1/tokens",
        handler=jobs_api.create_api_token,
        summary="Make a token for this API.",
        access=Role.ADMIN,
        body=NewApiTokenRequest,
        answer=ApiTokenAnswer,
        statuses=(201,),
    ),
)

CALLBACKS: tuple[Route[Any, Any], ...] = (
    Route(
        method="POST",
        path="/v1/jobs/{id}/heartbeat",
        handler=callbacks_api.heartbeat,
        summary="The trainer lives, and how far it is.",
        access="callback",
        body=HeartbeatBody,
        answer=CallbackAnswer,
        errors=(404, 409),
        tolerant_body=True,
    ),
    Route(
        method="POST",
        path="/v1/jobs/{id}/event",
        handler=callbacks_api.event,
        summary="Something that the trainer names itself.",
        access="callback",
        body=EventBody,
        answer=CallbackAnswer,
        errors=(404, 409),
    ),
    Route(
        method="POST",
        path="/v1/jobs/{id}/done",
        handler=callbacks_api.done,
        summary="The trainer's final word.",
        access="callback",
        body=DoneBody,
        answer=CallbackAnswer,
        errors=(404, 409),
    ),
    Route(
        method="POST",
        path="/v1/jobs/{id}/callbacks",
        handler=callbacks_api.callbacks,
        summary="Up to 500 callbacks in order, all recorded or none.",
        access="callback",
        body=CallbacksBody,
        answer=CallbacksAnswer,
        errors=(404, 409),
    ),
)

PROBES: tuple[Route[Any, Any], ...] = (
    Route(
        method="GET",
        path="/healthz",
        handler=probes.healthz,
        summary="The process answers.",
        access="open",
        answer=HealthzAnswer,
    ),
    Route(
        method="GET",
        path="/readyz",
        handler=probes.readyz,
        summary="The database answers and holds the log.",
        access="open",
        answer=HealthzAnswer,
        errors=(503,),
    ),
)

ROUTES = (*JOBS, *CALLBACKS, *PROBES)
