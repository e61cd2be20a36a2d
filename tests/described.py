"""Holds every answer of the API against the API's own OpenAPI document."""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from service.api import ROUTES
from service.openapi import openapi

PROBLEM = "application/problem+json"
_UNDESCRIBED = frozenset({"/v1/openapi.json"})  # a document does not describe itself
_formats = FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)
def _is_utc(value: object) -> bool:
    return not isinstance(value, str) or (
        value.endswith("Z") and bool(datetime.fromisoformat(value))
    )


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of this build."""
    return openapi(ROUTES)


def check_answer(method: str, path: str, status: int, media_type: str, payload: Any) -> None:
    """Fail unless the document says that this call may be answered so."""
    if path in _UNDESCRIBED and status == 200:
        return
    content = _described(method, path, status)
    assert media_type in content, f"{method} {path} answered {status} as {media_type}: {payload}"
    if payload is not None:
        name = content[media_type]["schema"]["$ref"].rsplit("/", 1)[1]
        wrong = sorted(_validator(name).iter_errors(payload), key=str)
        assert not wrong, f"{method} {path} answered {status}: {wrong[0].message} in {payload}"
    if media_type == PROBLEM and payload is not None:
        assert payload["status"] == status


def _described(method: str, path: str, status: int) -> Any:
    for template, operations in document()["paths"].items():
        operation = operations.get(method.lower())
        if operation and re.fullmatch(re.sub("{.*?}", "[^/]+", template), path):
            responses = operation["responses"]
            assert str(status) in responses, f"{method} {template} must not answer {status}"
            return responses[str(status)]["content"]
    assert status in {404, 405}, f"{method} {path} is no route and answered {status}"
    return {PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}}


@cache
def _validator(name: str) -> Draft202012Validator:
    schema = {
        "$ref": f"#/components/schemas/{name}",
        "components": {"schemas": document()["components"]["schemas"]},
    }
    return Draft202012Validator(schema, format_checker=_formats)
