"""What the machine does: its GPU by nvidia-ml-py, and its memory. What is absent is not said."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

log = logging.getLogger(__name__)

CGROUP = Path("/sys/fs/cgroup")
# Cgroups of version 1 say "no limit" with a number near 2**63.
NO_LIMIT = 1 << 60
UUIDS = ("GPU-{}", "MIG-{}", "{}")


class Telemetry:
    """Reads the gauges each time a heartbeat wants them; a reading takes about a millisecond."""

    def __init__(self, load: Callable[[], Any] | None = None, cgroup: Path = CGROUP) -> None:
        """Take how to load nvidia-ml-py: only where a GPU is watched is it wanted."""
        self._load = load or _load_nvml
        self._cgroup = cgroup
        self._reading = threading.Lock()
        self._uuid: str | None = None
        self._gpu: tuple[Any, Any] | None = None

    def watch_gpu(self, uuid: str) -> None:
        """Read this GPU from here on, named as torch names it."""
        self._uuid = uuid

    def facts(self) -> dict[str, Any]:
        """Return `gpu` and `host`, each where there is something to say."""
        with self._reading:
            found = {"gpu": self._read_gpu(), "host": self._read_host()}
        return {name: facts for name, facts in found.items() if facts}

    def _read_gpu(self) -> dict[str, Any]:
        if self._gpu is None and self._uuid is not None:
            self._gpu, self._uuid = self._open(self._uuid), None
        return gpu_facts(*self._gpu) if self._gpu else {}

    def _read_host(self) -> dict[str, Any]:
        try:
            return host_facts(self._cgroup)
        except Exception as error:  # a hardened container hides parts of /proc
            log.debug("the machine's gauges cannot be read: %s", error)
            return {}

    def _open(self, uuid: str) -> tuple[Any, Any] | None:
        """Return the library and its handle of the GPU; asked for once, however it goes."""
        try:
            nvml = self._load()
            nvml.nvmlInit()
            return nvml, _handle(nvml, uuid)
        except Exception as error:
            log.info("the GPU's gauges cannot be read: %s", error)
            return None


def gpu_facts(nvml: Any, handle: Any) -> dict[str, Any]:
    """Return what the GPU says of itself; a part of one (MIG) says less than a whole."""

    def memory(field: str) -> int:
        return int(getattr(nvml.nvmlDeviceGetMemoryInfo(handle), field))

    gauges: dict[str, Callable[[], Any]] = {
        "name": lambda: _text(nvml.nvmlDeviceGetName(handle)),
        "utilization": lambda: int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        "memory_used": lambda: memory("used"),
        "memory_total": lambda: memory("total"),
        "temperature": lambda: int(
            nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        ),
        "power": lambda: round(nvml.nvmlDeviceGetPowerUsage(handle) / 1000, 1),
    }
    found: dict[str, Any] = {}
    for name, read in gauges.items():
        try:
            found[name] = read()
        except Exception as error:  # the driver may not have it, or the library not any more
            log.debug("the GPU does not say its %s: %s", name, error)
    return found


def host_facts(cgroup: Path = CGROUP) -> dict[str, Any]:
    """Return the memory in use and the memory there is: the container's, where it has a limit."""
    used, total = _contained(cgroup) or _whole_machine()
    # Since the last reading; of all cores together.
    return {"memory_used": used, "memory_total": total, "cpu": psutil.cpu_percent(interval=None)}


def _whole_machine() -> tuple[int, int]:
    memory = psutil.virtual_memory()
    return memory.total - memory.available, memory.total


def _contained(cgroup: Path) -> tuple[int, int] | None:
    """Return what the kernel would kill for, and at which limit; None without one."""
    for limit, current in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        total, used = _number(cgroup / limit), _number(cgroup / current)
        if total is not None and used is not None and total < NO_LIMIT:
            stat = (cgroup / limit).parent / "memory.stat"
            return max(0, used - _idle_cache(stat)), total
    return None


def _idle_cache(stat: Path) -> int:
    """Return the page cache that the kernel gives back before it kills anybody."""
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    fields = dict(line.split(" ", 1) for line in lines if " " in line)
    return int(fields.get("total_inactive_file") or fields.get("inactive_file") or 0)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):  # not there, or `max`
        return None


def _load_nvml() -> Any:
    import pynvml  # noqa: PLC0415 - only where there is a GPU

    return pynvml


def _handle(nvml: Any, uuid: str) -> Any:
    """Return the handle of a GPU that torch names by the bare UUID."""
    for form in UUIDS:
        try:
            return nvml.nvmlDeviceGetHandleByUUID(form.format(uuid).encode())
        except nvml.NVMLError as error:
            failure = error
    raise failure


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
