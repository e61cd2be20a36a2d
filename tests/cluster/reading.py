"""Get, list and log: what the API answers about what is there."""

from __future__ import annotations

import asyncio
import base64
import binascii

import orjson
from aiohttp import web

from tests.cluster.objects import PODS, Object, is_over, name_of, namespace_of, uid_of
from tests.cluster.refusals import bad_request, continue_expired, unreachable_node
from tests.cluster.selectors import parse
from tests.cluster.steps import Steps
from tests.cluster.store import Entry, Key
from tests.cluster.target import Target, says_yes


def answer(entry: Entry, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """One object as JSON."""
    return web.Response(
        status=status, body=entry.whole, content_type="application/json", headers=headers
    )


def get(cluster: Steps, target: Target) -> web.Response:
    return answer(cluster.store.entry(target.resource, target.namespace or "", target.name))


def list_(cluster: Steps, target: Target, request: web.Request) -> web.Response:
    """A page of what matches, from what is newest now."""
    query = request.query
    selector = parse(query.get("labelSelector", ""), query.get("fieldSelector", ""))
    found = cluster.store.select(target.resource, target.namespace, selector)
    version = cluster.store.version
    if query.get("continue"):
        version, after = _read_token(cluster, target, query["continue"])
        found = [(key, entry) for key, entry in found if key > after]
    limit = int(query.get("limit") or 0)
    page = found[:limit] if limit else found
    metadata: Object = {"resourceVersion": str(version)}
    if len(page) < len(found):
        metadata["continue"] = _token(version, page[-1][0])
        if selector.is_empty:
            metadata["remainingItemCount"] = len(found) - len(page)
    head = f'{{"kind":"{target.resource.kind}List","apiVersion":"{target.resource.api_version}",'
    items = b",".join(entry.json for _, entry in page)
    body = head.encode() + b'"metadata":' + orjson.dumps(metadata) + b',"items":[' + items + b"]}"
    return web.Response(body=body, content_type="application/json")


async def log(cluster: Steps, target: Target, request: web.Request) -> web.StreamResponse:
    """What the container printed; with `follow`, until it ends."""
    pod = cluster.store.get(PODS, target.namespace or "", target.name)
    _refuse_without_log(cluster, pod, request.path)
    text = bytes(cluster.logs.get(uid_of(pod), b""))
    if not says_yes(request, "follow"):
        return web.Response(body=_cut(text, request), content_type="text/plain")
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    await response.write(_cut(text, request))
    sent = len(text)
    while True:
        over = _is_gone_or_over(cluster, pod)
        text = bytes(cluster.logs.get(uid_of(pod), b""))
        if len(text) > sent:
            await response.write(text[sent:])
            sent = len(text)
        if over:
            return response
        await asyncio.sleep(0.01)


def _refuse_without_log(cluster: Steps, pod: Object, path: str) -> None:
    node = pod["spec"].get("nodeName", "")
    if node in cluster.lost_nodes:
        raise unreachable_node(node, path)
    container = pod["spec"]["containers"][0]["name"]
    statuses = pod["status"].get("containerStatuses")
    if not statuses:
        if node:
            raise bad_request(f'container "{container}" in pod "{name_of(pod)}" is not available')
        raise bad_request(f"pod {name_of(pod)} does not have a host assigned")
    if "waiting" in statuses[0]["state"]:
        reason = statuses[0]["state"]["waiting"]["reason"]
        raise bad_request(
            f'container "{container}" in pod "{name_of(pod)}" is waiting to start: {reason}'
        )


def _cut(text: bytes, request: web.Request) -> bytes:
    if "tailLines" in request.query:
        lines = text.splitlines(keepends=True)
        wanted = int(request.query["tailLines"])
        text = b"".join(lines[-wanted:]) if wanted else b""
    if "limitBytes" in request.query:
        text = text[: int(request.query["limitBytes"])]
    return text


def _is_gone_or_over(cluster: Steps, pod: Object) -> bool:
    now = cluster.store.find(PODS, namespace_of(pod), name_of(pod))
    return now is None or is_over(now)


def _token(version: int, last: Key) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([version, *last])).decode().rstrip("=")


def _read_token(cluster: Steps, target: Target, token: str) -> tuple[int, Key]:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        version, namespace, name = orjson.loads(raw)
    except (ValueError, binascii.Error):
        raise bad_request("continue key is not valid") from None
    if version < cluster.store.oldest(target.resource):
        raise continue_expired()
    return version, (namespace, name)
