"""The OpenAPI document, made of the route table and of the schemas that check the requests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service.answer_schemas import ProblemAnswer
from service.api_tokens import Role
from service.errors import ServiceError
from service.request_schemas import NoQuery
from service.routing import MAX_HEADER, Route

_REF = "#/components/schemas/{model}"
_ALWAYS = {"open": (400,), "callback": (400, 401, 403, 413, 503)}
_CONTROL = (400, 401, 403, 503)


def openapi(routes: Sequence[Route[Any, Any]]) -> dict[str, Any]:
    """Return the document for these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Epochlog",
            "version": version("epochlog"),
            "description": "The flight recorder and control plane for GPU training jobs.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(routes),
            "securitySchemes": {
                "api": {"type": "http", "scheme": "bearer", "description": "An API token."},
                "callback": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The callback token of one attempt of one job.",
                },
            },
        },
    }


@cache
def error_codes() -> dict[int, list[str]]:
    """Return every error code, by HTTP status."""
    codes: dict[int, list[str]] = {}
    for kind in ServiceError.__subclasses__():
        codes.setdefault(kind.status, []).append(kind.code)
    return codes


def _operation(route: Route[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "tags": [_tag(route)],
        "responses": {**_answers(route), **_errors(route)},
    }
    parameters = [
        *_path_parameters(route.path),
        *_query_parameters(route.query),
        *_header_parameters(route.headers),
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.tolerant_body,
            "content": {"application/json": {"schema": _ref(route.body)}},
        }
    if route.access != "open":
        operation["security"] = [{"callback" if route.access == "callback" else "api": []}]
        operation["description"] = _who(route)
    return operation


def _tag(route: Route[Any, Any]) -> str:
    if route.access == "open":
        return "probes"
    return "callbacks" if route.access == "callback" else "control"


def _who(route: Route[Any, Any]) -> str:
    if isinstance(route.access, Role):
        return f"Needs an API token of role {route.access.name.lower()} or above."
    return "Needs the callback token of an attempt of this job."


def _answers(route: Route[Any, Any]) -> dict[str, Any]:
    if route.answer is None:
        content = {route.media_type: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": _ref(route.answer)}}
    if route.lines is not None:
        content["application/x-ndjson"] = {"schema": _ref(route.lines)}
    return {
        str(status): {"description": route.summary, "content": content} for status in route.statuses
    }


def _errors(route: Route[Any, Any]) -> dict[str, Any]:
    always = _ALWAYS[route.access] if isinstance(route.access, str) else _CONTROL
    too_large = (413,) if route.body is not None else ()
    content = {"application/problem+json": {"schema": _ref(ProblemAnswer)}}
    return {
        str(status): {"description": ", ".join(error_codes()[status]), "content": content}
        for status in sorted({*always, *too_large, *route.errors})
    }


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    if model is NoQuery:
        return []
    schema = model.model_json_schema()
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": _inlined(item, schema),
        }
        for name, item in schema["properties"].items()
    ]


def _header_parameters(headers: Mapping[str, str]) -> list[dict[str, Any]]:
    schema = {"type": "string", "minLength": 1, "maxLength": MAX_HEADER}
    return [
        {"name": name, "in": "header", "required": False, "description": why, "schema": schema}
        for name, why in headers.items()
    ]


def _inlined(item: Any, schema: dict[str, Any]) -> Any:
    """Return a parameter's schema with its definitions put in place."""
    if isinstance(item, dict):
        if "$ref" in item:
            return schema["$defs"][item["$ref"].rsplit("/", 1)[1]]
        return {name: _inlined(value, schema) for name, value in item.items()}
    return [_inlined(value, schema) for value in item] if isinstance(item, list) else item


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas(routes: Sequence[Route[Any, Any]]) -> dict[str, Any]:
    bodies = {route.body for route in routes if route.body is not None}
    given = {model for route in routes for model in (route.answer, route.lines) if model}
    answers = given | {ProblemAnswer}
    _, schema = models_json_schema(
        [
            *((model, "validation") for model in sorted(bodies, key=lambda model: model.__name__)),
            *((model, "serialization") for model in sorted(answers, key=lambda m: m.__name__)),
        ],
        ref_template=_REF,
    )
    definitions: dict[str, Any] = schema["$defs"]
    return definitions
