from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from trainer.telemetry import Telemetry, host_facts

UUID = "0a1b2c3d-0000-1111-2222-333344445555"


class Nvml:
    """What nvidia-ml-py says on a machine with one GPU; tests have none."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, *silent: str) -> None:
        self.silent = silent
        self.opened = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.opened += 1

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> str:  # noqa: N802
        if uuid != f"GPU-{UUID}".encode():
            raise self.NVMLError("Not Found")
        return "handle"

    def __getattr__(self, name: str) -> Any:
        said = {
            "nvmlDeviceGetName": b"NVIDIA H100",
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=87, memory=40),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=10, total=80),
            "nvmlDeviceGetTemperature": 55,
            "nvmlDeviceGetPowerUsage": 345678,
        }[name]

        def answer(handle: str, *_: int) -> Any:
            assert handle == "handle"
            if name in self.silent:
                raise self.NVMLError("Not Supported")
            return said

        return answer


def test_a_watched_gpu_says_how_it_is() -> None:
    nvml = Nvml()
    telemetry = Telemetry(lambda: nvml)
    assert "gpu" not in telemetry.facts()
    telemetry.watch_gpu(UUID)
    telemetry.facts()

    assert telemetry.facts()["gpu"] == {
        "name": "NVIDIA H100",
        "utilization": 87,
        "memory_used": 10,
        "memory_total": 80,
        "temperature": 55,
        "power": 345.7,
    }
    assert nvml.opened == 1


def test_a_part_of_a_gpu_says_what_it_can() -> None:
    telemetry = Telemetry(lambda: Nvml("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage"))
    telemetry.watch_gpu(UUID)

    assert telemetry.facts()["gpu"].keys() == {
        "name",
        "memory_used",
        "memory_total",
        "temperature",
    }


@pytest.mark.parametrize("uuid", [UUID, "another"])
def test_a_gpu_that_cannot_be_read_is_not_spoken_of_nor_asked_for_again(uuid: str) -> None:
    """With the real library, which finds no driver here, or no such GPU."""
    telemetry = Telemetry()
    telemetry.watch_gpu(f"{uuid}-not-on-this-machine")

    assert "gpu" not in telemetry.facts()
    assert telemetry._uuid is None


def test_the_memory_is_the_machines_where_no_container_has_less(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    facts = host_facts(tmp_path)

    assert facts["memory_total"] == psutil.virtual_memory().total
    assert 0 < facts["memory_used"] < facts["memory_total"]
    assert facts["cpu"] >= 0


def test_in_a_container_the_limit_counts_and_idle_cache_does_not(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\n")

    facts = host_facts(tmp_path)

    assert (facts["memory_used"], facts["memory_total"]) == (500, 1000)


def test_the_older_cgroups_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("1000\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("300\n")
    assert host_facts(tmp_path)["memory_total"] == 1000

    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{2**63 - 4096}\n")
    assert host_facts(tmp_path)["memory_total"] == psutil.virtual_memory().total


def test_a_gauge_that_breaks_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml()
    # As in a release of the library that has it no more.
    monkeypatch.setattr(nvml, "nvmlDeviceGetTemperature", None, raising=False)
    telemetry = Telemetry(lambda: nvml)
    telemetry.watch_gpu(UUID)

    def masked(**_: object) -> float:
        raise FileNotFoundError("/proc/stat")

    monkeypatch.setattr(psutil, "cpu_percent", masked)
    found = telemetry.facts()

    assert found["gpu"]["utilization"] == 87
    assert "temperature" not in found["gpu"]
    assert "host" not in found
