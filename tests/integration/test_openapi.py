"""The OpenAPI document, the routes and the schemas that check the requests are one thing."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from service import answer_schemas, errors
from service.api import ROUTES
from service.app import build_app
from service.openapi import error_codes
from service.request_schemas import NoQuery
from service.routing import Route
from tests.described import document
from tests.http import Api

DESCRIBES = ("GET", "/v1/openapi.json")
# The calls of the contract that exist so far, and what else the service answers.
CONTRACT = {
    ("POST", "/v1/jobs"), ("GET", "/v1/jobs"), ("GET", "/v1/jobs/{id}"),
    ("POST", "/v1/jobs/{id}/cancel"), ("POST", "/v1/jobs/{id}/token"),
    ("GET", "/v1/jobs/{id}/events"), ("GET", "/v1/jobs/{id}/timeline"),
    ("GET", "/v1/jobs/{id}/explain"), ("GET", "/v1/jobs/{id}/logs"),
    ("GET", "/v1/fleet"), ("GET", "/v1/fleet/diff"),
    ("GET", "/v1/jobs/{id}/export"),
    ("POST", "/v1/jobs/{id}/heartbeat"), ("POST", "/v1/jobs/{id}/event"),
    ("POST", "/v1/jobs/{id}/done"), ("POST", "/v1/jobs/{id}/callbacks"),
    ("POST", "/v1/tokens"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"),
    ("GET", "/v1/events"), ("GET", "/v1/stream"), ("GET", "/v1/jobs/{id}/stream"),
}  # fmt: skip
OPERATIONS = [
    (method.upper(), path, operation)
    for path, operations in document()["paths"].items()
    for method, operation in operations.items()
]


def _name(value: object) -> str | None:
    return f"{value.method} {value.path}" if isinstance(value, Route) else None


def _inlined(schema: Any, definitions: Any) -> Any:
    """The schema with every reference replaced by what it refers to."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
        return {
            name: _inlined(item, definitions)
            for name, item in schema.items()
            if name not in {"$defs", "discriminator"}
        }
    return [_inlined(item, definitions) for item in schema] if isinstance(schema, list) else schema


def _same(model: type[BaseModel], mode: Any) -> bool:
    own = model.model_json_schema(mode=mode)
    components = document()["components"]["schemas"]
    shown = components[model.__name__]
    return bool(_inlined(own, own.get("$defs", {})) == _inlined(shown, components))


async def test_the_document_is_served_to_anybody_as_it_is_made(shared_api: Api) -> None:
    answer = await shared_api.call("GET", "/v1/openapi.json", token="")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json == document()


async def test_the_document_the_table_and_the_application_have_the_same_routes(
    shared_api: Api,
) -> None:
    app = build_app(shared_api.service.instance)
    served = {
        (route.method, route.resource.canonical) for route in app.router.routes() if route.resource
    }
    table = {(route.method, route.path) for route in ROUTES}
    described = {(method, path) for method, path, _ in OPERATIONS}

    assert described == table
    assert served == table | {DESCRIBES}
    assert len(table) == len(ROUTES)


def test_every_call_of_the_contract_is_there() -> None:
    assert {(route.method, route.path) for route in ROUTES} >= CONTRACT


def test_the_document_has_the_structure_of_openapi_3_1() -> None:
    whole = document()

    assert whole["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(whole["info"])
    assert set(whole) <= {"openapi", "info", "paths", "components", "servers", "tags"}
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(names) == len(set(names))
    for method, path, operation in OPERATIONS:
        assert method in {"GET", "POST"}
        assert path.startswith("/")
        assert operation["summary"]
        assert operation["responses"]
        assert [
            item["name"] for item in operation.get("parameters", []) if item["in"] == "path"
        ] == (re.findall(r"{(\w+)}", path))
        for status, response in operation["responses"].items():
            assert HTTPStatus(int(status))
            assert response["description"]
            assert response["content"]
        for parameter in operation.get("parameters", []):
            assert parameter["in"] in {"path", "query", "header"}
            needed = parameter["in"] == "path" or parameter["name"] == "from"
            assert parameter["required"] is needed
            Draft202012Validator.check_schema(parameter["schema"])
        for requirement in operation.get("security", []):
            assert set(requirement) <= set(whole["components"]["securitySchemes"])


def test_every_schema_is_a_json_schema_and_every_reference_leads_somewhere() -> None:
    schemas = document()["components"]["schemas"]
    for name, schema in schemas.items():
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
        Draft202012Validator.check_schema(schema)

    references = re.findall(r"'(#/[^']+)'", str(document()))
    assert references
    for reference in set(references):
        *place, name = reference.removeprefix("#/").split("/")
        assert place == ["components", "schemas"]
        assert name in schemas


@pytest.mark.parametrize("route", [each for each in ROUTES if each.body], ids=_name)
def test_a_body_is_described_by_the_schema_that_checks_it(route: Route[Any, Any]) -> None:
    assert route.body is not None
    operation = document()["paths"][route.path][route.method.lower()]
    content = operation["requestBody"]["content"]

    assert content == {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{route.body.__name__}"}}
    }
    assert operation["requestBody"]["required"] is not route.tolerant_body
    assert _same(route.body, "validation")
    assert "413" in operation["responses"]


@pytest.mark.parametrize("route", [each for each in ROUTES if each.query is not NoQuery], ids=_name)
def test_parameters_are_described_by_the_schema_that_checks_them(route: Route[Any, Any]) -> None:
    operation = document()["paths"][route.path]["get"]
    shown = {
        item["name"]: item["schema"] for item in operation["parameters"] if item["in"] == "query"
    }
    own = route.query.model_json_schema()

    assert shown == _inlined(own["properties"], own.get("$defs", {}))


@pytest.mark.parametrize("route", [each for each in ROUTES if each.answer], ids=_name)
def test_an_answer_is_described_by_its_schema(route: Route[Any, Any]) -> None:
    assert route.answer is not None
    responses = document()["paths"][route.path][route.method.lower()]["responses"]

    good = {int(status) for status in responses if int(status) < 300}
    assert good == set(route.statuses)
    forms = {"application/json": route.answer, "application/x-ndjson": route.lines}
    given = {media_type: model for media_type, model in forms.items() if model is not None}
    for status in good:
        assert responses[str(status)]["content"] == {
            media_type: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
            for media_type, model in given.items()
        }
    assert all(_same(model, "serialization") for model in given.values())


@pytest.mark.parametrize("route", ROUTES, ids=_name)
def test_what_a_call_needs_is_said(route: Route[Any, Any]) -> None:
    operation = document()["paths"][route.path][route.method.lower()]

    if route.access == "open":
        assert "security" not in operation
    else:
        scheme = "callback" if route.access == "callback" else "api"
        assert operation["security"] == [{scheme: []}]
        assert {"401", "403", "503"} <= set(operation["responses"])


def test_every_error_code_appears_under_its_status() -> None:
    described: dict[str, set[str]] = {}
    for _, _, operation in OPERATIONS:
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                described.setdefault(status, set()).update(response["description"].split(", "))

    known = {
        (str(kind.status), kind.code)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.ServiceError)
    } - {("500", "internal_error")}  # no call answers so by design
    assert known == {(status, code) for status, codes in described.items() for code in codes}
    assert known == {
        (str(status), code) for status, codes in error_codes().items() for code in codes
    }


def test_every_answer_schema_is_used() -> None:
    models = {
        name
        for name, model in vars(answer_schemas).items()
        if isinstance(model, type)
        and issubclass(model, answer_schemas._Answer)
        and not name.startswith("_")
    }

    assert models <= set(document()["components"]["schemas"])
