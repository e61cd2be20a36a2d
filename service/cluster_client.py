"""One Kubernetes cluster over its API: the only home of kubernetes_asyncio.

It speaks the API's own JSON and nothing else, with a time limit on every call, since the library
has none. What can go wrong is one of four things: the cluster cannot be asked, it forbids us to
ask, it refuses what was asked, or the history that a watch wants is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
import orjson
import structlog
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, ApiException, Configuration

from projections.objects import Object, number, part, parts, said_at, text
from service.executor import ExecutorUnavailableError

SELECTOR = "app=trainer"
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0
QUIET_SECONDS = 90.0
"""A watch that says nothing for so long is dead: bookmarks come each minute."""
WATCH_SECONDS = 300
PAGE = 500
RELOGIN_SECONDS = 30.0
MOST_EVENTS = 200
_BY_ROLES = re.compile(r'is forbidden: User ".*" cannot \S+ resource "')
"""Tells a missing role from a quota or a policy: all of them are 403."""
_FINAL_WORDS = frozenset({400, 403, 404, 405, 409, 413, 422})
"""Answers on which something is given up, so that they count only as the API gives them: any
proxy on the way has a 404 of its own."""
CALL = aiohttp.ClientTimeout(total=60, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
STREAM = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=QUIET_SECONDS)

# Its debug lines hold whole answers, and with them Secrets.
logging.getLogger("kubernetes_asyncio.client.rest").setLevel(logging.INFO)
log = structlog.get_logger(__name__)


class ClusterUnavailableError(ExecutorUnavailableError):
    """The cluster could not be asked; the same call may work later."""

    def __init__(
        self, message: str, retry_after: float | None = None, *, silent: bool = False
    ) -> None:
        """Say what happened, and after how many seconds it wants to be asked again.

        A `silent` one has not answered in time, and may have been away for a while.
        """
        super().__init__(message)
        self.retry_after, self.silent = retry_after, silent


class ClusterForbidsError(ExecutorUnavailableError):
    """We are not let in, or may not do this: a matter for whoever gives out roles."""


class ClusterRefusesError(Exception):
    """The cluster understood and said no: by its rules, a quota or a webhook."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        """Keep the API's own status, reason and words."""
        super().__init__(message)
        self.status, self.reason = status, reason


class HistoryIsOverError(Exception):
    """The version from which a watch was to go on is too old: everything must be listed anew."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object that we follow."""

    group: str
    plural: str

    def path(self, namespace: str, name: str = "", sub: str = "") -> str:
        """Return where its objects are, or one of them, or a part of one."""
        steps = [self.group, "namespaces", namespace, self.plural, name, sub]
        return "/" + "/".join(step for step in steps if step)


JOBS = Kind("apis/batch/v1", "jobs")
PODS = Kind("api/v1", "pods")
SECRETS = Kind("api/v1", "secrets")
EVENTS = Kind("api/v1", "events")


@dataclass(slots=True)
class ClusterClient:
    """Calls one namespace of one cluster."""

    namespace: str
    name: str = ""
    """What the cluster is called here."""
    context: str | None = None
    """The kubeconfig's context; None for its current one."""
    kubeconfig: str | None = None
    in_cluster: bool = False
    forbidden: dict[str, str] = field(default_factory=dict)
    """What was forbidden when it was last asked for, as `verb resource`, in the cluster's words."""
    _api: ApiClient | None = None
    _logged_in_at: float = 0.0
    _login: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def close(self) -> None:
        """Let go of the connections."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()

    async def list_all(self, kind: Kind, selector: str = SELECTOR) -> tuple[list[Object], str]:
        """Return all our objects of a kind, and the version of the cluster that shows them."""
        found: list[Object] = []
        query = {"labelSelector": selector, "limit": str(PAGE)}
        while True:
            page = await self._json("GET", kind.path(self.namespace), query)
            found += parts(page, "items")
            meta = part(page, "metadata")
            if not text(meta, "continue"):
                return found, text(meta, "resourceVersion")
            query["continue"] = text(meta, "continue")

    async def watch(self, kind: Kind, version: str) -> AsyncGenerator[Object, None]:
        """Yield what happens to our objects after a version, until the server ends the stream.

        Raises HistoryIsOverError where it does not go back so far.
        """
        query = {
            "watch": "true",
            "labelSelector": SELECTOR,
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS + random.randint(-30, 30)),  # noqa: S311
        }
        async with self._call("GET", kind.path(self.namespace), query, limits=STREAM) as answer:
            async for line in _lines(answer):
                event = _event(line)
                if event.get("type") == "ERROR":
                    raise _error_of(part(event, "object"))
                yield event

    async def job(self, name: str) -> Object | None:
        """Return a Job, or None where there is none of this name."""
        try:
            return await self._json("GET", JOBS.path(self.namespace, name))
        except ClusterRefusesError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def create(self, kind: Kind, body: Object) -> Object:
        """Make an object and return it. Raises ClusterRefusesError, 409 where it is there."""
        try:
            return await self._json("POST", kind.path(self.namespace), body=body)
        except ClusterRefusesError as error:
            if error.status == HTTPStatus.CONFLICT and error.reason != "AlreadyExists":
                # Two at once, over a quota's count: neither is made, and the next try may be.
                raise ClusterUnavailableError(str(error)) from error
            raise

    async def delete_job(self, name: str, uid: str) -> None:
        """Have this very Job deleted, its pods before it; do nothing where it is not there."""
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        await self._delete(JOBS, name, options)

    async def delete_secret(self, name: str) -> None:
        """Delete a Secret; do nothing where it is not there."""
        await self._delete(SECRETS, name, {})

    async def events_about(self, uid: str) -> list[Object]:
        """Return the core Events about one object, the newest last."""
        query = {"fieldSelector": f"involvedObject.uid={uid}", "limit": str(MOST_EVENTS)}
        page = await self._json("GET", EVENTS.path(self.namespace), query)
        return sorted(parts(page, "items"), key=said_at)

    async def pod_log(self, name: str, tail: int | None, container: str | None) -> str | None:
        """Return a pod's output, its last `tail` lines; None where the pod is not there."""
        query = {"container": container} if container else {}
        if tail is not None:
            query["tailLines"] = str(tail)
        try:
            async with self._call("GET", PODS.path(self.namespace, name, "log"), query) as answer:
                return (await answer.read()).decode(errors="replace")
        except ClusterRefusesError as error:
            if error.status in {400, 404}:  # 400: its container has not started
                return None
            raise

    async def _delete(self, kind: Kind, name: str, options: Mapping[str, Any]) -> None:
        try:
            await self._json("DELETE", kind.path(self.namespace, name), body=options)
        except ClusterRefusesError as error:
            if error.status not in {404, 409}:  # 409: another object of this name, not ours
                raise

    async def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
    ) -> Object:
        async with self._call(method, path, query or {}, body) as answer:
            raw = await answer.read()
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            raise ClusterUnavailableError("What answered is no Kubernetes API: it sent no JSON.")
        return value

    @asynccontextmanager
    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None = None,
        *,
        limits: aiohttp.ClientTimeout = CALL,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give its answer; every way in which it can fail is one of ours."""
        wish = _wish(method, path, query)
        request = {
            "resource_path": path,
            "method": method,
            "query_params": list(query.items()),
            "body": body,
            "_request_timeout": limits,
        }
        try:
            answer = await self._answer(request)
            async with answer:
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    problem = await _problem(answer)
                    self._note(wish, problem)
                    raise problem
                self._note(wish, None)
                yield answer
        except ApiException as error:
            raise ClusterUnavailableError(f"The cluster's API answered {error.status}.") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            said = str(error) or type(error).__name__
            raise ClusterUnavailableError(
                f"The cluster cannot be reached: {said}.", silent=isinstance(error, TimeoutError)
            ) from error

    async def _answer(self, request: Mapping[str, Any]) -> aiohttp.ClientResponse:
        """Send a request, and once more where the credentials or the trust may have been renewed.

        The kubeconfig and an account's files are read when we log in, and both may change later.
        """
        api = await self._logged_in()
        try:
            answer = await _sent(api, request)
        except aiohttp.ClientSSLError:
            if not await self._log_out(api):
                raise
        else:
            if answer.status != HTTPStatus.UNAUTHORIZED or not await self._log_out(api):
                return answer
            answer.close()
        return await _sent(await self._logged_in(), request)

    def _note(self, wish: str, problem: Exception | None) -> None:
        """Keep in mind what we may not do until it is seen to be allowed; say both once."""
        if isinstance(problem, ClusterForbidsError):
            if wish not in self.forbidden:
                log.warning("forbidden", cluster=self.name, wish=wish, error=str(problem))
            self.forbidden[wish] = str(problem)
            return
        let_in = problem is None or isinstance(problem, ClusterRefusesError)
        if let_in and self.forbidden.pop(wish, None) is not None:
            log.info("allowed_again", cluster=self.name, wish=wish)

    async def _logged_in(self) -> ApiClient:
        async with self._login:
            if self._api is None:
                configuration = Configuration()
                try:
                    await self._configure(configuration)
                except (config.ConfigException, OSError, ValueError) as error:
                    raise ClusterUnavailableError(f"The kubeconfig is no use: {error}") from error
                self._api, self._logged_in_at = ApiClient(configuration), time.monotonic()
        return self._api

    async def _configure(self, configuration: Configuration) -> None:
        if self.in_cluster:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(
                config_file=self.kubeconfig,
                context=self.context,
                client_configuration=configuration,
                persist_config=False,
            )

    async def _log_out(self, used: ApiClient) -> bool:
        """Have the credentials read again, unless that was done just now; whether others may do."""
        if self._api is not used:
            return True
        if time.monotonic() - self._logged_in_at <= RELOGIN_SECONDS:
            return False
        with contextlib.suppress(Exception):
            await self.close()
        return True


async def _sent(api: ApiClient, request: Mapping[str, Any]) -> aiohttp.ClientResponse:
    answer: aiohttp.ClientResponse = await api.call_api(
        **request,
        header_params={"Accept": "application/json"},
        auth_settings=["BearerToken"],
        _preload_content=False,
        _return_http_data_only=True,
    )
    return answer


async def _problem(answer: aiohttp.ClientResponse) -> Exception:
    raw = await answer.read()
    try:
        status = part({"status": orjson.loads(raw)}, "status")
    except orjson.JSONDecodeError:
        status = {}
    told_by_the_api = text(status, "kind") == "Status" or answer.status not in _FINAL_WORDS
    if not told_by_the_api:
        return ClusterUnavailableError(f"What answered {answer.status} is no Kubernetes API.")
    return _error_of({"code": answer.status, **status}, answer)


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield a stream's lines, however long: objects may have a megabyte."""
    rest: list[bytes] = []
    async for chunk in answer.content.iter_any():
        first, *others = chunk.split(b"\n")
        rest.append(first)
        for other in others:
            if line := b"".join(rest).strip():
                yield line
            rest = [other]


def _event(line: bytes) -> Object:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        event = None
    if not isinstance(event, dict):
        raise ClusterUnavailableError("The watch was cut short, or something else answered it.")
    return event


def _error_of(status: Object, answer: aiohttp.ClientResponse | None = None) -> Exception:
    """Return what a Status object of the API means to us."""
    code, message = number(status, "code") or 0, text(status, "message")
    if code == HTTPStatus.GONE or text(status, "reason") == "Expired":
        return HistoryIsOverError(message)
    words = message or f"The cluster's API answered {code}."
    if code == HTTPStatus.UNAUTHORIZED:
        return ClusterForbidsError(f"Our credentials are not accepted: {words}")
    if code == HTTPStatus.FORBIDDEN and _BY_ROLES.search(message):
        return ClusterForbidsError(f"The role is missing: {words}")
    if code in {408, 429} or code >= 500 or code == 0:
        said = answer.headers.get("Retry-After", "") if answer is not None else ""
        return ClusterUnavailableError(words, float(said) if said.isdigit() else None)
    return ClusterRefusesError(code, text(status, "reason"), words)


def _wish(method: str, path: str, query: Mapping[str, str]) -> str:
    """Return what a request asks for in the words of a Role: `watch jobs`, `get pods/log`."""
    plural, *rest = path.partition("/namespaces/")[2].split("/")[1:]
    verbs = {"POST": "create", "DELETE": "delete"}
    reading = "get" if rest else "watch" if "watch" in query else "list"
    return f"{verbs.get(method, reading)} {'/'.join([plural, *rest[1:]])}"
