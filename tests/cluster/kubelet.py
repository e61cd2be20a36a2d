"""A scheduler and a kubelet that run each pod's command as a real process on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

from tests.cluster.environment import ConfigError, argv_of, environment_of
from tests.cluster.objects import (
    PODS,
    SECRETS,
    Object,
    is_deleting,
    is_over,
    uid_of,
)
from tests.cluster.selectors import Selector
from tests.cluster.steps import Steps
from tests.cluster.store import Change

NO_COMMAND = "failed to create containerd task: exec: no command specified"
LONGEST_MESSAGE = 2048


class Kubelet:
    """Binds, starts, watches and stops; a pod's life is its process's."""

    def __init__(
        self,
        cluster: Steps,
        *,
        command: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        folder: str | None = None,
        speed: float = 1.0,
    ) -> None:
        """`command` is what images run that name none; `speed` shortens grace periods."""
        self._cluster = cluster
        self._command = list(command)
        self._environ = {"PATH": os.environ["PATH"], **(environ or {})}
        self._folder = folder
        self._speed = speed
        self._wake = asyncio.Event()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping: dict[str, asyncio.Task[None]] = {}

    def pid_of(self, pod: Object) -> int | None:
        """The process of the pod's container, if one runs."""
        process = self._processes.get(uid_of(pod))
        return None if process is None else process.pid

    async def work(self) -> None:
        """Bring every pod on, now and after each change, for ever."""
        self._cluster.store.listeners.append(self._notice)
        try:
            while True:
                self._wake.clear()
                self._look_at_all()
                await self._wake.wait()
        finally:
            self._cluster.store.listeners.remove(self._notice)
            await self._end_all()

    def _notice(self, change: Change) -> None:
        if change.entry.resource in (PODS, SECRETS):
            self._wake.set()

    def _look_at_all(self) -> None:
        everything = self._cluster.store.select(PODS, None, Selector())
        present = {uid_of(entry.body): entry.body for _, entry in everything}
        for uid in [uid for uid in self._processes if uid not in present]:
            self._kill(uid)  # forced away: nothing waits for it
        for uid, pod in present.items():
            if pod["spec"].get("nodeName") in self._cluster.lost_nodes or is_over(pod):
                continue
            if is_deleting(pod):
                self._stop(uid, pod)
            elif uid not in self._tasks:
                self._tasks[uid] = asyncio.create_task(self._run(uid, pod))

    async def _run(self, uid: str, pod: Object) -> None:
        """One container, from its binding to its end."""
        if "nodeName" not in pod["spec"]:
            pod = self._cluster.schedule(pod)
        pod = self._cluster.creating(pod)
        environment = await self._environment(pod)
        if environment is None:
            return
        argv = argv_of(pod, environment) or self._command
        try:
            process = await self._spawn(argv, environment)
        except (OSError, IndexError) as error:
            self._cluster.exit(pod, 128, reason="StartError", message=f"{NO_COMMAND}: {error}")
            return
        self._processes[uid] = process
        if self._cluster.store.by_uid(uid) is None:  # deleted before it could start
            self._kill(uid)
        else:
            self._cluster.start(pod)
        reading = asyncio.create_task(self._read(uid, process))
        code = await _exit_of(process)
        self._kill(uid)  # what the command has left behind goes with its container
        await reading
        self._processes.pop(uid, None)
        await self._report(uid, 128 - code if code < 0 else code)

    async def _environment(self, pod: Object) -> dict[str, str] | None:
        """The variables, as soon as every Secret is there; None if the pod goes before."""
        told = ""
        while True:
            now = self._cluster.store.by_uid(uid_of(pod))
            if now is None or is_deleting(now):
                return None
            try:
                return environment_of(now, self._cluster.store)
            except ConfigError as error:
                if str(error) != told:
                    told = str(error)
                    self._cluster.config_error(now, told)
            await asyncio.sleep(0.02)

    async def _spawn(
        self, argv: list[str], environment: dict[str, str]
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            argv[0],
            *argv[1:],
            env={**self._environ, **environment},
            cwd=self._folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )

    async def _read(self, uid: str, process: asyncio.subprocess.Process) -> None:
        log = self._cluster.logs.setdefault(uid, bytearray())
        assert process.stdout is not None
        while chunk := await process.stdout.read(65536):
            log.extend(chunk)

    async def _report(self, uid: str, code: int) -> None:
        """Say how the container ended, as soon as the node can speak."""
        while True:
            pod = self._cluster.store.by_uid(uid)
            if pod is None:
                return
            if pod["spec"]["nodeName"] not in self._cluster.lost_nodes:
                break
            await asyncio.sleep(0.02)
        self._cluster.exit(pod, code, message=self._last_words(pod, code))

    def _last_words(self, pod: Object, code: int) -> str:
        policy = pod["spec"]["containers"][0]["terminationMessagePolicy"]
        if code == 0 or policy != "FallbackToLogsOnError":
            return ""
        log = bytes(self._cluster.logs.get(uid_of(pod), b""))
        return log[-LONGEST_MESSAGE:].decode(errors="replace")

    def _stop(self, uid: str, pod: Object) -> None:
        """SIGTERM, and SIGKILL when the grace period is over."""
        process = self._processes.get(uid)
        if process is None or uid in self._stopping:
            return
        grace = pod["metadata"]["deletionGracePeriodSeconds"] / self._speed
        self._stopping[uid] = asyncio.create_task(self._terminate(uid, process, grace))

    async def _terminate(self, uid: str, process: asyncio.subprocess.Process, grace: float) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(grace):
                await _exit_of(process)
        except TimeoutError:
            self._kill(uid)

    def _kill(self, uid: str) -> None:
        process = self._processes.get(uid)
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    async def _end_all(self) -> None:
        for uid in list(self._processes):
            self._kill(uid)
        tasks = [*self._tasks.values(), *self._stopping.values()]
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for process in self._processes.values():
            await process.wait()
        for result in results:
            if isinstance(result, Exception):
                raise result


async def _exit_of(process: asyncio.subprocess.Process) -> int:
    """The exit code, even while a child of the process holds its output open."""
    while process.returncode is None:  # noqa: ASYNC110 - wait() waits for the output, too
        await asyncio.sleep(0.01)
    return process.returncode


@asynccontextmanager
async def kubelet_of(
    cluster: Steps,
    *,
    command: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    folder: str | None = None,
    speed: float = 1.0,
) -> AsyncIterator[Kubelet]:
    """A kubelet that works inside the block; no process outlives it."""
    kubelet = Kubelet(cluster, command=command, environ=environ, folder=folder, speed=speed)
    task = asyncio.create_task(kubelet.work())
    try:
        yield kubelet
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
