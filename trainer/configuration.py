"""What the environment asks for: read once, checked once, then never changed."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from trainer.errors import ConfigurationError
from trainer.log_lines import LogFormat, Origin
from trainer.stop import GRACE_SECONDS

STORAGE_TYPES = ("local", "s3", "r2")
STORAGE_ACCESSES = ("keys", "presigned")
BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:[\x21-\x7e]+")
# It stands in every log line, so it must not be able to look like another line or record.
TRACE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
SMALLEST_IMAGE = 32  # the coarsest stride of the YOLO family
AUTO_BATCH = -1  # ultralytics then measures the GPU itself
DATASET_CHECKS = ("errors", "warn", "off")
CACHE_BYTES = 20 * 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageKeys:
    """Credentials of the object store: one to read with, and one to write with."""

    read: tuple[str, str] | None = field(default=None, repr=False)
    write: tuple[str, str] | None = field(default=None, repr=False)
    """An access key's id and its secret; None leaves it to what every S3 client looks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls back: what any training needs to report, whatever it trains with."""

    job_id: int
    attempt: int
    trace_id: str
    base_url: str
    token: str = field(repr=False)
    resume_from: str | None
    heartbeat_seconds: float
    grace_seconds: float
    outbox_dir: Path
    """Where callbacks wait that are not delivered yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration(Caller):
    """One attempt of one job, as its launcher described it."""

    storage_type: str
    storage_access: str
    storage_endpoint: str | None
    storage_keys: StorageKeys
    bucket: str
    dataset_id: str
    model_name: str
    epochs: int
    imgsz: int
    batch: int
    mlflow_uri: str | None
    mlflow_run_id: str | None
    """The run to continue, where the service does not know one."""
    train_params: str
    work_dir: Path | None
    dataset_check: str = "errors"
    dataset_cache_dir: Path | None = None
    dataset_cache_bytes: int = CACHE_BYTES
    log_format: LogFormat = LogFormat.TEXT

    @property
    def origin(self) -> Origin:
        """Whose lines the log's are."""
        return Origin(trace_id=self.trace_id, job_id=self.job_id, attempt=self.attempt)


def read_caller(environment: Mapping[str, str]) -> Caller:
    """Return who calls back; raises ConfigurationError as `read_configuration` does."""
    return Caller(
        job_id=_whole(environment, "JOB_ID", smallest=1),
        attempt=_whole(environment, "ATTEMPT", smallest=1),
        trace_id=_trace_id(environment),
        base_url=_base_url(environment),
        token=_text(environment, "CALLBACK_TOKEN"),
        resume_from=_optional(environment, "RESUME_FROM"),
        heartbeat_seconds=_seconds(environment, "HEARTBEAT_SECONDS", default=30),
        grace_seconds=_seconds(environment, "GRACE_SECONDS", default=GRACE_SECONDS),
        outbox_dir=outbox_dir(environment),
    )


def read_configuration(environment: Mapping[str, str]) -> Configuration:
    """Return the attempt, or raise ConfigurationError naming the first variable that is wrong."""
    return Configuration(
        **asdict(read_caller(environment)),
        storage_type=_storage_type(environment),
        storage_access=_storage_access(environment),
        storage_endpoint=_storage_endpoint(environment),
        storage_keys=_storage_keys(environment),
        bucket=_bucket(environment),
        dataset_id=_text(environment, "DATASET_ID"),
        model_name=_text(environment, "MODEL_NAME"),
        epochs=_whole(environment, "EPOCHS", smallest=1),
        imgsz=_whole(environment, "IMGSZ", smallest=SMALLEST_IMAGE, default=640),
        batch=_batch(environment),
        mlflow_uri=_optional(environment, "MLFLOW_TRACKING_URI"),
        mlflow_run_id=_optional(environment, "MLFLOW_RUN_ID"),
        train_params=_optional(environment, "TRAIN_PARAMS") or "{}",
        work_dir=_folder(environment, "WORK_DIR"),
        dataset_check=_dataset_check(environment),
        dataset_cache_dir=_folder(environment, "DATASET_CACHE_DIR"),
        dataset_cache_bytes=_whole(
            environment, "DATASET_CACHE_BYTES", smallest=0, default=CACHE_BYTES
        ),
        log_format=_log_format(environment),
    )


def known_origin(environment: Mapping[str, str]) -> Origin | None:
    """Return whose lines they are as far as a wrong environment tells; None without a trace."""
    trace_id = environment.get("TRACE_ID", "").strip()
    if not TRACE_ID.fullmatch(trace_id):
        return None
    numbers = [environment.get(name, "").strip() for name in ("JOB_ID", "ATTEMPT")]
    job_id, attempt = (int(number) if number.isdecimal() else None for number in numbers)
    return Origin(trace_id=trace_id, job_id=job_id, attempt=attempt)


def known_log_format(environment: Mapping[str, str]) -> LogFormat:
    """Return how lines are written as far as a wrong environment tells."""
    try:
        return _log_format(environment)
    except ConfigurationError:
        return LogFormat.TEXT


def _optional(environment: Mapping[str, str], name: str) -> str | None:
    return environment.get(name, "").strip() or None


def _text(environment: Mapping[str, str], name: str) -> str:
    value = _optional(environment, name)
    if value is None:
        raise ConfigurationError(f"The variable {name} is missing.")
    return value


def _whole(
    environment: Mapping[str, str], name: str, *, smallest: int, default: int | None = None
) -> int:
    text = _optional(environment, name)
    if text is None and default is not None:
        return default
    text = _text(environment, name)
    wanted = f"The variable {name} must be a whole number of at least {smallest}, not {text!r}."
    try:
        value = int(text)
    except ValueError:
        raise ConfigurationError(wanted) from None
    if value < smallest:
        raise ConfigurationError(wanted)
    return value


def _batch(environment: Mapping[str, str]) -> int:
    if _optional(environment, "BATCH") == str(AUTO_BATCH):
        return AUTO_BATCH
    return _whole(environment, "BATCH", smallest=1, default=16)


def _seconds(environment: Mapping[str, str], name: str, *, default: float) -> float:
    text = _optional(environment, name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise ConfigurationError(
            f"The variable {name} must be a number of seconds, 0 or more, not {text!r}."
        )
    return value


def _trace_id(environment: Mapping[str, str]) -> str:
    value = _text(environment, "TRACE_ID")
    if not TRACE_ID.fullmatch(value):
        raise ConfigurationError(
            f"The variable TRACE_ID must be letters, digits and . _ : - only, not {value!r}."
        )
    if not value.strip("0-"):
        raise ConfigurationError(
            "The variable TRACE_ID must be more than zeros, which name no trace."
        )
    return value


def _base_url(environment: Mapping[str, str]) -> str:
    value = _text(environment, "BACKEND_BASE_URL").rstrip("/")
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ConfigurationError(
            f"The variable BACKEND_BASE_URL must be an http:// or https:// address, not {value!r}."
        )
    return value


def _storage_type(environment: Mapping[str, str]) -> str:
    value = _text(environment, "STORAGE_TYPE")
    if value not in STORAGE_TYPES:
        raise ConfigurationError(
            f"The variable STORAGE_TYPE must be one of {', '.join(STORAGE_TYPES)}, not {value!r}."
        )
    return value


def _bucket(environment: Mapping[str, str]) -> str:
    value = _text(environment, "BUCKET")
    if _storage_type(environment) != "local" and not BUCKET_NAME.fullmatch(value):
        raise ConfigurationError(
            f"The variable BUCKET must be a bucket's name such as trainings, not {value!r}."
        )
    return value


def outbox_dir(environment: Mapping[str, str]) -> Path:
    """Return the folder of undelivered callbacks: one that outlives the process, where it can."""
    if named := _folder(environment, "OUTBOX_DIR"):
        return named
    work = _folder(environment, "WORK_DIR")
    return (work or Path(tempfile.gettempdir()) / f"epochlog-{os.getuid()}") / "outbox"


def _storage_access(environment: Mapping[str, str]) -> str:
    value = _optional(environment, "STORAGE_ACCESS") or STORAGE_ACCESSES[0]
    if value not in STORAGE_ACCESSES:
        accesses = ", ".join(STORAGE_ACCESSES)
        raise ConfigurationError(
            f"The variable STORAGE_ACCESS must be one of {accesses}, not {value!r}."
        )
    return value


def _storage_endpoint(environment: Mapping[str, str]) -> str | None:
    value = _optional(environment, "R2_ENDPOINT")
    by_keys = _storage_access(environment) == "keys" and _storage_type(environment) == "r2"
    if value is None and by_keys:
        raise ConfigurationError("The variable R2_ENDPOINT is missing: STORAGE_TYPE is r2.")
    if value is not None and urlsplit(value).scheme not in {"http", "https"}:
        raise ConfigurationError(
            f"The variable R2_ENDPOINT must be an http:// or https:// address, not {value!r}."
        )
    return value


def _storage_keys(environment: Mapping[str, str]) -> StorageKeys:
    read = _key_pair(environment, "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY")
    write = _key_pair(environment, "R2_WRITE_ACCESS_KEY_ID", "R2_WRITE_SECRET_ACCESS_KEY")
    return StorageKeys(read=read, write=write or read)


def _key_pair(environment: Mapping[str, str], key: str, secret: str) -> tuple[str, str] | None:
    pair = (_optional(environment, key), _optional(environment, secret))
    match pair:
        case (str(found), str(its_secret)):
            return found, its_secret
        case (None, None):
            return None
        case _:
            missing = key if pair[0] is None else secret
            raise ConfigurationError(f"The variable {missing} is missing beside its other half.")


def _dataset_check(environment: Mapping[str, str]) -> str:
    value = _optional(environment, "DATASET_CHECK") or DATASET_CHECKS[0]
    if value not in DATASET_CHECKS:
        raise ConfigurationError(
            f"The variable DATASET_CHECK must be one of {', '.join(DATASET_CHECKS)}, not {value!r}."
        )
    return value


def _log_format(environment: Mapping[str, str]) -> LogFormat:
    value = _optional(environment, "LOG_FORMAT") or LogFormat.TEXT
    if value not in tuple(LogFormat):
        raise ConfigurationError(
            f"The variable LOG_FORMAT must be one of {', '.join(LogFormat)}, not {value!r}."
        )
    return LogFormat(value)


def _folder(environment: Mapping[str, str], name: str) -> Path | None:
    value = _optional(environment, name)
    return Path(value).absolute() if value else None
