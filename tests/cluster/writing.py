"""Create, change and delete: validation, admission, and the answer before any controller moves."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from tests.cluster import deletion
from tests.cluster.access import User, review
from tests.cluster.defaults import with_defaults, with_name
from tests.cluster.objects import (
    JOBS,
    NAMESPACES,
    PODS,
    SECRETS,
    Object,
    Resource,
    copied,
    name_of,
    uid_of,
)
from tests.cluster.patches import apply_json_patch, merge
from tests.cluster.reading import answer
from tests.cluster.refusals import (
    Refusal,
    already_exists,
    bad_request,
    details,
    not_found,
    stale,
    wrong_uid,
)
from tests.cluster.selectors import parse
from tests.cluster.steps import Steps
from tests.cluster.store import Entry, prepared
from tests.cluster.target import Target
from tests.cluster.validation import check_change, check_new

POLICIES = frozenset({"Orphan", "Background", "Foreground"})


async def create(cluster: Steps, target: Target, request: web.Request) -> web.Response:
    """Keep a new object, or say why not."""
    resource, namespace = target.resource, target.namespace or ""
    body = with_name(await read_json(request), namespace)
    if resource.namespaced and cluster.store.find(NAMESPACES, "", namespace) is None:
        raise not_found(NAMESPACES, namespace)
    check_new(resource, body)
    made = with_defaults(resource, body)
    cluster.admission.check(resource, name_of(made), made)
    remark = cluster.admission.warning(resource, made)
    headers = {} if remark is None else warning(remark)
    if is_dry(request):
        if cluster.store.find(resource, namespace, name_of(made)) is not None:
            raise already_exists(resource, name_of(made))
        return answer(Entry(resource, prepared(made, cluster.store.clock)), 201, headers)
    return answer(cluster.store.create(resource, made), 201, headers)


async def replace(cluster: Steps, target: Target, request: web.Request) -> web.Response:
    body = await read_json(request)
    return _change(cluster, target, request, lambda _: body)


async def patch(cluster: Steps, target: Target, request: web.Request) -> web.Response:
    """Change parts of an object; a strategic patch is merged as a plain one."""
    given = await read_json(request)
    if request.content_type == "application/json-patch+json":
        return _change(cluster, target, request, lambda now: apply_json_patch(now, given))
    if not isinstance(given, dict):
        raise bad_request("json: cannot unmarshal array into Go value of type map")
    return _change(cluster, target, request, lambda now: merge(now, given))


async def delete(cluster: Steps, target: Target, request: web.Request) -> web.Response:
    """Delete one object, by the propagation that was asked for or the kind's own."""
    options = await read_options(request)
    resource = target.resource
    body = cluster.store.get(resource, target.namespace or "", target.name)
    _check_preconditions(resource, body, options)
    policy = options.get("propagationPolicy")
    if policy is not None and policy not in POLICIES:
        raise bad_request(f'DeleteOptions.propagationPolicy: Unsupported value: "{policy}"')
    headers = {}
    if policy is None and resource is JOBS:
        policy, headers = "Orphan", warning(deletion.PRESERVED)
    if is_dry(request) or options.get("dryRun"):
        return deleted(resource, body, headers)
    grace = options.get("gracePeriodSeconds")
    left = deletion.delete(
        cluster.store, resource, body, policy=policy or "Background", grace=grace
    )
    if resource is PODS or cluster.store.by_uid(uid_of(body)) is not None:
        return answer(left, headers=headers)
    return deleted(resource, body, headers)


async def delete_many(cluster: Steps, target: Target, request: web.Request) -> web.Response:
    """Delete all that match."""
    options = await read_options(request)
    query = request.query
    selector = parse(query.get("labelSelector", ""), query.get("fieldSelector", ""))
    default = "Orphan" if target.resource is JOBS else "Background"
    policy = options.get("propagationPolicy") or default
    for _, entry in cluster.store.select(target.resource, target.namespace, selector):
        deletion.delete(cluster.store, target.resource, entry.body, policy=policy)
    return web.json_response(
        {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    )


async def review_access(user: User, request: web.Request) -> web.Response:
    """Tell the user what the user may do."""
    body = await read_json(request)
    allowed = review(user, (body.get("spec") or {}).get("resourceAttributes") or {})
    status: Object = {"allowed": allowed}
    if allowed and user.rules is not None:
        status["reason"] = f'RBAC: allowed by RoleBinding "epochlog/{user.namespace}"'
    return web.json_response(
        {
            "kind": "SelfSubjectAccessReview",
            "apiVersion": "authorization.k8s.io/v1",
            "metadata": {},
            "spec": body.get("spec"),
            "status": status,
        },
        status=201,
    )


async def read_json(request: web.Request) -> Any:
    try:
        return orjson.loads(await request.read())
    except ValueError:
        raise bad_request("the request body is not JSON") from None


async def read_options(request: web.Request) -> Object:
    """The DeleteOptions, from the body or the query."""
    raw = await request.read()
    options: Object = orjson.loads(raw) if raw else {}
    named: Object = {
        name: request.query[name] for name in ("propagationPolicy",) if name in request.query
    }
    if "gracePeriodSeconds" in request.query:
        named["gracePeriodSeconds"] = int(request.query["gracePeriodSeconds"])
    return {**options, **named}


def is_dry(request: web.Request) -> bool:
    wanted = request.query.getall("dryRun", [])
    if wanted and wanted != ["All"]:
        raise Refusal(422, "Invalid", f'dryRun: Unsupported value: "{wanted[0]}"')
    return bool(wanted)


def warning(text: str) -> dict[str, str]:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return {"Warning": f'299 - "{quoted}"'}


def deleted(resource: Resource, body: Object, headers: dict[str, str]) -> web.Response:
    """The answer about an object that is gone at once."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details(resource, name_of(body), uid=uid_of(body)),
    }
    return web.json_response(status, headers=headers)


def _change(cluster: Steps, target: Target, request: web.Request, new: Any) -> web.Response:
    resource, namespace = target.resource, target.namespace or ""
    before = cluster.store.get(resource, namespace, target.name)
    after = _kept_together(before, new(copied(before)), target.subresource)
    given = (after["metadata"].get("resourceVersion"), before["metadata"]["resourceVersion"])
    if given[0] not in (None, "", given[1]):
        raise stale(resource, target.name)
    after["metadata"]["resourceVersion"] = given[1]
    check_change(resource, before, after)
    if after.get("spec") != before.get("spec"):
        after["metadata"]["generation"] += 1
    if is_dry(request):
        return answer(Entry(resource, after))

    def put(body: Object) -> None:
        body.clear()
        body.update(after)

    return answer(cluster.store.update(resource, namespace, target.name, put))


def _kept_together(before: Object, after: Object, subresource: str) -> Object:
    """What a write may change: the status by its subresource only, the identity never."""
    after = {name: part for name, part in after.items() if name not in ("kind", "apiVersion")}
    identity = ("uid", "name", "namespace", "creationTimestamp", "generation", "deletionTimestamp")
    metadata = {
        **after.get("metadata", {}),
        **{name: before["metadata"][name] for name in identity if name in before["metadata"]},
    }
    if subresource == "status":
        return {**before, "metadata": dict(before["metadata"]), "status": after.get("status", {})}
    kept = {"status": before["status"]} if "status" in before else {}
    if "stringData" in after:
        after = with_defaults(SECRETS, after)
    return {**after, **kept, "metadata": metadata}


def _check_preconditions(resource: Resource, body: Object, options: Object) -> None:
    wanted = (options.get("preconditions") or {}).get("uid")
    if wanted is not None and wanted != uid_of(body):
        raise wrong_uid(resource, name_of(body), wanted, uid_of(body))
