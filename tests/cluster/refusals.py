"""The answers by which a real API server says no: status, reason and sentence, word for word."""

from __future__ import annotations

from typing import Any

from tests.cluster.objects import Object, Resource


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """What the client gets instead of what it asked for."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        details: Object | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers or {}

    def body(self) -> Object:
        """The Status object."""
        body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = self.details
        return {**body, "code": self.status}


def details(resource: Resource, name: str = "", **more: Any) -> Object:
    """What a Status says about the object concerned."""
    about: Object = {"name": name} if name else {}
    if resource.group:
        about["group"] = resource.group
    return {**about, "kind": resource.plural, **more}


def unauthorized() -> Refusal:
    return Refusal(401, "Unauthorized", "Unauthorized")


def not_found(resource: Resource, name: str) -> Refusal:
    message = f'{resource.qualified} "{name}" not found'
    return Refusal(404, "NotFound", message, details(resource, name))


def no_such_path() -> Refusal:
    return Refusal(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed() -> Refusal:
    message = "the server does not allow this method on the requested resource"
    return Refusal(405, "MethodNotAllowed", message, {})


def already_exists(resource: Resource, name: str) -> Refusal:
    message = f'{resource.qualified} "{name}" already exists'
    return Refusal(409, "AlreadyExists", message, details(resource, name))


def wrong_uid(resource: Resource, name: str, wanted: str, found: str) -> Refusal:
    message = (
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": Precondition failed: '
        f"UID in precondition: {wanted}, UID in object meta: {found}"
    )
    return Refusal(409, "Conflict", message, details(resource, name))


def stale(resource: Resource, name: str) -> Refusal:
    message = (
        f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been '
        "modified; please apply your changes to the latest version and try again"
    )
    return Refusal(409, "Conflict", message, details(resource, name))


def quota_conflict() -> Refusal:
    """Two creations at once counted the same quota."""
    message = (
        'Operation cannot be fulfilled on resourcequotas "compute": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return Refusal(409, "Conflict", message, {"name": "compute", "kind": "resourcequotas"})


def namespace_terminating(resource: Resource, name: str, namespace: str) -> Refusal:
    message = (
        f'{resource.qualified} "{name}" is forbidden: unable to create new content in namespace '
        f"{namespace} because it is being terminated"
    )
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    return Refusal(403, "Forbidden", message, details(resource, name, causes=[cause]))


def invalid(resource: Resource, name: str, causes: list[tuple[str, str, str]]) -> Refusal:
    """422 with every cause: (field, reason, message)."""
    sentences = [f"{field}: {message}" for field, _, message in causes]
    listed = sentences[0] if len(sentences) == 1 else f"[{', '.join(sentences)}]"
    about: Object = {"name": name} if name else {}
    if resource.group:
        about["group"] = resource.group
    about["kind"] = resource.kind
    about["causes"] = [
        {"reason": reason, "message": message, "field": field} for field, reason, message in causes
    ]
    shown = f'{resource.qualified_kind} "{name}" is invalid: {listed}'
    return Refusal(422, "Invalid", shown, about)


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def forbidden(resource: Resource, name: str, why: str) -> Refusal:
    """403 of an admission plug-in, or of the authorizer."""
    named = f' "{name}"' if name else ""
    message = f"{resource.qualified}{named} is forbidden: {why}"
    return Refusal(403, "Forbidden", message, details(resource, name))


def expired(wanted: int, oldest: int) -> Refusal:
    """410, the watch's resourceVersion being older than what is kept."""
    message = f"too old resource version: {wanted} ({oldest})"
    return Refusal(410, "Expired", message)


def continue_expired() -> Refusal:
    message = (
        "The provided continue parameter is too old to display a consistent list result. "
        "You can start a new list without the continue parameter."
    )
    return Refusal(410, "Expired", message)


def unreachable_node(node: str, path: str) -> Refusal:
    message = f'Get "https://{node}:10250{path}": dial tcp: connect: no route to host'
    return Refusal(500, "InternalError", message)
