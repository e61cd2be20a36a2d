"""What the golden log tells: every type of event, in every spelling that was ever stored.

Only add here. A story that is in the log already is history: neither it nor its place may change.
Each entry is an event as some build wrote it: its data is spelled out and not encoded by the code,
so that renaming a field there makes the log unreadable, and a test fail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One event: when after the one before it, by whom, of which attempt, and what it says."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    source: str = "supervisor"
    attempt: int = 1
    after: float = 1.0
    seq: int | None = None
    early: float = 0.0
    """By how much the producer's clock was behind."""


@dataclass(frozen=True, slots=True)
class RolledUp:
    """Heartbeats that were compacted since: one event stands for them, in the last one's place."""

    beats: tuple[Told, ...]
    data: dict[str, Any]


def trainer(type_name: str, seq: int | None = None, *, attempt: int = 1, **data: Any) -> Told:
    return Told(
        type=type_name, data=data, source="trainer", seq=seq, attempt=attempt, after=10, early=0.003
    )


def beat(seq: int | None = None, *, attempt: int = 1, **data: Any) -> Told:
    return trainer("heartbeat", seq, attempt=attempt, **data)


def said(seq: int, name: str, *, attempt: int = 1, **data: Any) -> Told:
    return trainer("trainer_event", seq, attempt=attempt, type=name, data=data)


def created(**data: Any) -> Told:
    asked = {"dataset_id": "coco8", "model_name": "yolo11n", "epochs": 10, "max_retries": 3}
    return Told(type="created", data={**asked, "priority": 0, **data}, source="api")


def queued(executor: str | None = None, *, attempt: int = 1, **data: Any) -> Told:
    said = {"reason": "submitted", "message": "The executor was asked to start it.", **data}
    if executor:
        said["executor"] = executor
    return Told(type="queued", data=said, source="launcher", attempt=attempt)


def running(*, attempt: int = 1, **more: Any) -> Told:
    said = {"reason": "seen_alive", "message": "pid 4711 is alive.", "handle": "pid 4711"}
    data = {**said, **more}
    return Told(type="running", data=data, source="watcher", attempt=attempt)


def exited(*, attempt: int = 1, **data: Any) -> Told:
    said = {"machine_lost": False, "refused": False, "message": "", **data}
    return Told(type="exited", data=said, source="watcher", attempt=attempt)


def failed_attempt(reason: str, failure_class: str, *, attempt: int = 1, **data: Any) -> Told:
    said = {"reason": reason, "message": f"It ended: {reason}.", "failure_class": failure_class}
    return Told(type="attempt_failed", data={**said, **data}, attempt=attempt)


def retry(next_attempt: int, *, failure_class: str = "retryable", **data: Any) -> Told:
    said = {
        "reason": "retry_scheduled",
        "message": f"Attempt {next_attempt} follows, from the beginning: it ended.",
        "failure_class": failure_class,
        "next_attempt": next_attempt,
        "retry_count_before": next_attempt - 2,
        "retry_count_after": next_attempt - 1,
        "max_retries": 3,
        "interruptions_before": 0,
        "interruptions_after": 0,
        "max_interruptions": 10,
        "delay_seconds": 30.0,
    }
    return Told(type="retry_scheduled", data={**said, **data}, attempt=next_attempt - 1)


A_TRAINING: tuple[Told | RolledUp, ...] = (
    created(
        imgsz=640,
        batch=16,
        params={"lr0": 0.01, "augment": True, "freeze": [0, 1], "nested": {"a": None}},
        labels={"team": "vision", "größe": "klein"},
        priority=5,
        idempotency_key="golden-1",
    ),
    queued(reason="waits_for_a_slot", message="All slots are taken."),
    queued("local", place="0123456789abcdef0123456789abcdef"),
    running(),
    Told(
        type="token_issued",
        data={"jti": "jti-1", "expires_at": "2026-01-01T06:00:00Z"},
        source="operator",
    ),
    beat(1, epoch=1, epochs=10, progress=0.05, batch=10, batches=20, metrics={"loss": 2.5}),
    beat(2, epoch=1, progress=1e-1, batch=20, gpu={"utilization": 97, "memory_mb": 21000.5}),
    trainer(
        "trainer_event",
        3,
        type="epoch_end",
        data={"epoch": 1, "metrics": {"loss": 2, "mAP50": 0.5}, "seconds": 31},
    ),
    trainer(
        "trainer_event",
        4,
        type="checkpoint_saved",
        data={"epoch": 1, "uri": "s3://b/last.pt", "sha256": "ab"},
    ),
    trainer("trainer_event", 5, type="phase_started", data={"phase": "validate"}),
    Told(
        type="adopted",
        data={"handle": "pid 4711", "message": "The service started anew and took over pid 4711."},
        source="watcher",
    ),
    Told(
        type="evidence",
        data={"kind": "gpu", "data": {"xid": 79, "text": "fell off the bus"}},
        source="watcher",
    ),
    trainer(
        "done",
        9,
        status="succeeded",
        mlflow_run_id="run-1",
        artifacts=[{"name": "best.pt", "uri": "s3://b/best.pt", "sha256": "cd", "bytes": 12345}],
        metrics={"mAP50": 0.75},
    ),
    Told(type="succeeded", data={"because": [13]}),
    exited(exit_code=0),
    beat(10, epoch=2),
    Told(type="exited", data={"exit_code": 0}, source="watcher"),
)
"""All goes well, and what comes after the end is set aside."""

A_RETRY: tuple[Told | RolledUp, ...] = (
    created(max_retries=1),
    queued("local"),
    running(),
    beat(1, epoch=1, progress=0.1),
    trainer(
        "done",
        2,
        status="failed",
        error={"code": "cuda_out_of_memory", "message": "It was too much.", "retryable": True},
    ),
    failed_attempt("cuda_out_of_memory", "retryable", because=[22]),
    failed_attempt("exit_nonzero", "retryable", exit_code=1, because=[22]),
    retry(2, max_retries=1, checkpoint="s3://b/last.pt", because=[22, 23]),
    exited(exit_code=1, message="CUDA out of memory"),
    queued("local", attempt=2, place="another machine"),
    running(attempt=2),
    beat(3, attempt=1, epoch=7),
    beat(1, attempt=4),
    beat(1, attempt=2, epoch=2, progress=0.2),
    exited(attempt=2, signal=9),
    running(attempt=2),
    failed_attempt("killed", "retryable", attempt=2, signal=9, because=[32]),
    Told(
        type="failed",
        data={
            "reason": "killed",
            "message": "The process was killed by signal 9.",
            "why": "retries_spent",
            "because": [32, 34],
        },
        attempt=2,
    ),
)
"""One retry, which fails too: stale, unknown and doubled facts in between."""

A_CANCEL: tuple[Told | RolledUp, ...] = (
    created(),
    queued("local"),
    running(),
    beat(1, epoch=1),
    Told(type="cancel_requested", data={"reason": "seen enough"}, source="operator"),
    Told(type="cancel_requested", source="operator"),
    beat(2, epoch=1),
    Told(type="cancel_delivered", data={"because": [40]}, source="api"),
    Told(type="cancel_delivered", data={"because": [40]}, source="api"),
    Told(
        type="stop_requested",
        data={
            "reason": "cancel_requested",
            "message": "The trainer did not end within 30 s of the cancel.",
            "because": [40],
        },
    ),
    Told(type="stop_requested", data={"reason": "heartbeat_lost", "message": "Silent."}),
    trainer("done", 3, status="succeeded"),
    exited(exit_code=0),
    beat(4, epoch=1),
    Told(
        type="cancelled",
        data={
            "reason": "cancelled",
            "message": "The job was cancelled on request (seen enough).",
            "because": [40, 48],
        },
    ),
)
"""A cancel that the trainer heard of before it reported success."""

A_SILENCE: tuple[Told | RolledUp, ...] = (
    created(),
    beat(1, epoch=1),
    Told(
        type="health_changed",
        after=300,
        data={
            "verdict": "silent",
            "previous": "healthy",
            "alive_at": "2026-01-01T00:00:00+00:00",
            "timeout_seconds": 300,
        },
    ),
    Told(type="health_changed", data={"verdict": "unreachable", "previous": "silent"}),
    Told(
        type="health_changed",
        data={
            "verdict": "stalled",
            "previous": "unreachable",
            "advanced_at": "2026-01-01T00:00:00+00:00",
            "timeout_seconds": 1800.0,
        },
    ),
    failed_attempt("heartbeat_lost", "interruption"),
    retry(
        2,
        failure_class="interruption",
        retry_count_after=0,
        interruptions_after=1,
        delay_seconds=30,
    ),
    Told(type="cancel_requested", source="operator", attempt=2),
    Told(
        type="cancelled",
        attempt=2,
        data={
            "reason": "cancelled_before_launch",
            "message": "The job was cancelled before it was launched.",
        },
    ),
)
"""Started by somebody else, silent, unreachable, stalled; lost with its machine, then cancelled."""

ODD_SPELLINGS: tuple[Told | RolledUp, ...] = (
    Told(type="created", source="api", data={"dataset_id": "", "model_name": "m", "epochs": 3}),
    Told(
        type="created", source="api", data={"dataset_id": "again", "model_name": "m", "epochs": 4}
    ),
    Told(
        type="queued",
        source="launcher",
        data={"reason": "submitted", "message": "", "node": "a newer build's"},
    ),
    beat(None, progress=1, epoch=0, batch=3, metrics={"a": 1, "b": 1e23, "c": -0.0, "d": 2.0}),
    beat(7, progress=0, epochs=4, newer_field={"x": [1, 2.5, None, True, "é"]}),
    trainer(
        "trainer_event",
        None,
        type="epoch_end",
        data={"epoch": "two", "metrics": "none", "seconds": -1},
        also="kept",
    ),
    trainer(
        "trainer_event",
        8,
        type="epoch_end",
        data={"epoch": 2, "metrics": {"loss": "bad", "mAP": 1}},
    ),
    trainer("trainer_event", 8, type="checkpoint_saved", data={"uri": None}),
    Told(type="gpu_probe", source="watcher", data={"temperature": 71, "fan": {"rpm": 3200}}),
    failed_attempt("cosmic_ray", "act_of_god"),
    Told(type="failed", data={"reason": "cosmic_ray", "message": "", "why": "a_newer_rule"}),
    trainer("done", 9, status="failed", newer="kept"),
)
"""What older, newer and careless builds and trainers have stored: it must stay readable."""

A_COMPACTED_TRAINING: tuple[Told | RolledUp, ...] = (
    created(epochs=2),
    queued("local"),
    running(),
    beat(1, epoch=1, batch=1, batches=40),
    RolledUp(
        (
            beat(2, epoch=1, epochs=2, progress=0.1, batch=10, metrics={"loss": 3.0}),
            beat(3, epoch=1, epochs=2, progress=0.2, batch=20, metrics={"loss": 2.0}),
            beat(
                5,
                epoch=1,
                epochs=2,
                progress=0.3,
                batch=30,
                batches=40,
                metrics={"loss": 1.5},
                gpu={"utilization": 90},
            ),
        ),
        {
            "from_version": 5,
            "from_position": 76,
            "count": 3,
            "first_at": "2026-01-01T00:10:00.123456Z",
            "last_at": "2026-01-01T00:10:20.123456Z",
            "min_gap_seconds": 10.0,
            "max_gap_seconds": 10.0,
            "seqs": [[2, 3], [5, 5]],
            "advanced_at": "2026-01-01T00:10:20.123456Z",
            "epoch": 1,
            "epochs": 2,
            "progress": 0.3,
            "batch": 30,
            "batches": 40,
            "metrics": {"loss": 1.5},
            "gpu": {"utilization": 90},
        },
    ),
    trainer("trainer_event", 6, type="epoch_end", data={"epoch": 1, "metrics": {"loss": 1.25}}),
    trainer(
        "done",
        7,
        status="failed",
        error={"code": "bad_dataset", "message": "No images.", "retryable": False},
    ),
    failed_attempt("bad_dataset", "fatal"),
    Told(
        type="failed",
        data={"reason": "bad_dataset", "message": "No images.", "why": "not_retryable"},
    ),
)
"""Heartbeats that were rolled up into one event."""

AN_OPEN_JOB: tuple[Told | RolledUp, ...] = (
    created(),
    queued("local", place="here"),
    running(),
    beat(1, epoch=1, batch=2, batches=10, metrics={"loss": 0.125}),
    Told(type="stop_requested", data={"reason": "queue_timeout", "message": "Too long."}),
)
"""Still going on at the end of the log."""

A_DRAIN: tuple[Told | RolledUp, ...] = (
    created(),
    queued("kubernetes", place="kubernetes:default/training"),
    Told(
        type="launched",
        data={
            "uid": "d421d9b7-2baf-4fb0-9a48-e0b032225cab",
            "handle": "Job train-8",
            "message": "Job train-8 was made for attempt 1.",
        },
        source="watcher",
    ),
    Told(
        type="queued",
        data={"reason": "unschedulable", "message": "0/3 nodes are available."},
        source="watcher",
        after=20,
    ),
    running(),
    beat(1, epoch=1, epochs=10),
    Told(
        type="terminating",
        data={
            "reason": "drained",
            "message": "The pod was evicted through the API.",
            "handle": "pod train-8-x2k4d on node-3",
        },
        source="watcher",
    ),
    exited(
        exit_code=143,
        signal=15,
        cause="drained",
        node="node-3",
        message="The pod was evicted through the API (node node-3).",
    ),
    failed_attempt("drained", "interruption", exit_code=143, signal=15, because=[92]),
    retry(2, failure_class="interruption", retry_count_after=0, interruptions_after=1),
    queued("kubernetes", attempt=2, place="kubernetes:default/training"),
)

A_JOB_OF_A_CLUSTER: tuple[Told | RolledUp, ...] = (
    created(cluster="a100"),
    queued(reason="waits_for_a_slot", message="All slots are taken."),
)
"""One that names its cluster, and waits."""

A_RESUME: tuple[Told | RolledUp, ...] = (
    created(),
    queued("local"),
    running(),
    said(1, "tracking_started", mlflow_run_id="run-7"),
    beat(2, epoch=1, batch=10, batches=20),
    said(3, "epoch_end", epoch=1, metrics={"loss": 2.0}),
    said(4, "checkpoint_saved", epoch=1, uri="s3://b/1/1.pt", sha256="aa", bytes=10),
    said(5, "epoch_end", epoch=2, metrics={"loss": 1.5}),
    said(
        6,
        "checkpoint_saved",
        epoch=2,
        uri="s3://b/1/0.pt",
        sha256="bb",
        bytes=10,
        best={"uri": "s3://b/1/best.pt", "sha256": "dd", "bytes": 9, "epoch": 1},
    ),
    said(9, "callbacks_dropped", seqs=[[7, 8]], count=2, why="thinned"),
    said(10, "epoch_end", epoch=3, metrics={"loss": 1.25}),
    beat(11, epoch=4, batch=12, batches=20),
    said(
        12,
        "traceback",
        code="oom",
        exception="OutOfMemoryError: CUDA out of memory",
        lines=["Traceback (most recent call last):", "OutOfMemoryError: CUDA out of memory"],
    ),
    trainer("done", 13, status="failed", error={"code": "oom", "message": "Out of memory."}),
    failed_attempt("oom", "retryable", because=[114]),
    retry(2, checkpoint="s3://b/1/0.pt", because=[114, 115]),
    exited(exit_code=1),
    queued("local", attempt=2),
    running(attempt=2),
    said(1, "checkpoint_damaged", attempt=2, uri="s3://b/1/0.pt", message="Its hash differs."),
    said(2, "tracking_started", attempt=2, mlflow_run_id="run-7"),
    said(3, "epoch_end", attempt=2, epoch=2, metrics={"loss": 1.5}, redone=True),
    said(14, "checkpoint_saved", epoch=3, uri="s3://b/1/1.pt", sha256="cc"),
    said(4, "mlflow_unavailable", attempt=2, message="ConnectionError"),
    said(5, "mlflow_recovered", attempt=2, missed=2),
    said(
        6,
        "callbacks_dropped",
        attempt=2,
        seqs=[[7, 7]],
        count=1,
        why="refused",
        status=413,
        code="payload_too_large",
        detail="The body is larger than 256 KiB.",
    ),
    Told(
        type="token_issued",
        data={"jti": "jti-2", "expires_at": "2026-01-01T06:00:00Z"},
        source="api",
    ),
    said(8, "storage_unreachable", attempt=2, message="The store does not answer."),
    Told(
        type="health_changed",
        data={"verdict": "stalled", "previous": "healthy", "timeout_seconds": 1800.0},
        attempt=2,
    ),
)
"""An attempt goes on where the one before had left off, from its last sound checkpoint."""

A_SECOND_POD = (
    created(),
    queued("kubernetes", place="kubernetes:/training"),
    Told(
        type="launched",
        data={"uid": "uid-11", "handle": "Job train-11", "message": "It was made."},
        source="watcher",
    ),
    queued(reason="scheduling", pod="pod-1"),
    running(handle="pod train-11-a", pod="pod-1"),
    beat(1, epoch=1),
    queued(reason="scheduling", pod="pod-2"),
    running(handle="pod train-11-b", pod="pod-2"),
    running(handle="pod train-11-c", pod="pod-3"),
)
"""The cluster makes further pods of an attempt's Job."""

STORIES = (
    A_TRAINING,
    A_RETRY,
    A_CANCEL,
    A_SILENCE,
    ODD_SPELLINGS,
    A_COMPACTED_TRAINING,
    AN_OPEN_JOB,
    A_DRAIN,
    A_JOB_OF_A_CLUSTER,
    A_RESUME,
    A_SECOND_POD,
)
