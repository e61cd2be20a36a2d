"""What a path and a method mean: resource, namespace, name, subresource and verb."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from tests.cluster.access import Wish
from tests.cluster.objects import ACCESS_REVIEWS, KEPT, Resource
from tests.cluster.refusals import method_not_allowed, no_such_path

BY_PATH = {(resource.group, resource.plural): resource for resource in (*KEPT, ACCESS_REVIEWS)}
SUBRESOURCES = {"jobs": {"status"}, "pods": {"status", "log"}}
TRUE = frozenset({"true", "1", "t"})


@dataclass(frozen=True, slots=True)
class Target:
    """The objects that a request is about."""

    resource: Resource
    namespace: str | None
    name: str
    subresource: str
    verb: str

    def wish(self) -> Wish:
        """The same in the words of the authorizer."""
        sub = f"/{self.subresource}" if self.subresource else ""
        return Wish(
            verb=self.verb,
            group=self.resource.group,
            resource=self.resource.plural + sub,
            namespace=self.namespace or "",
            name=self.name,
        )


def says_yes(request: web.Request, name: str) -> bool:
    """Whether a flag is set; kubernetes-asyncio writes `True`."""
    return request.query.get(name, "").lower() in TRUE


def target_of(request: web.Request) -> Target:
    """Read the request's path, or refuse it as one that is not served."""
    parts = request.path.strip("/").split("/")
    if parts[:2] == ["api", "v1"]:
        group, rest = "", parts[2:]
    elif parts[0] == "apis" and len(parts) > 3 and parts[2] == "v1":
        group, rest = parts[1], parts[3:]
    else:
        raise no_such_path()
    namespace = None
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    resource = BY_PATH.get((group, rest[0]))
    if resource is None or len(rest) > 3 or (namespace is not None and not resource.namespaced):
        raise no_such_path()
    name, sub = [*rest[1:], "", ""][:2]
    if sub and sub not in SUBRESOURCES.get(resource.plural, ()):
        raise no_such_path()
    if resource.namespaced and name and namespace is None:
        raise no_such_path()
    return Target(resource, namespace, name, sub, _verb(request, bool(name)))


def _verb(request: web.Request, named: bool) -> str:
    match request.method, named:
        case "GET", True:
            return "get"
        case "GET", False:
            return "watch" if says_yes(request, "watch") else "list"
        case "POST", False:
            return "create"
        case "PUT", True:
            return "update"
        case "PATCH", True:
            return "patch"
        case "DELETE", True:
            return "delete"
        case "DELETE", False:
            return "deletecollection"
        case _:
            raise method_not_allowed()
