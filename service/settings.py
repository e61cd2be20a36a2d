"""The settings of one service, read from its environment once and checked as a whole."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import ErrorDetails

from service.errors import SettingsError

PREFIX = "EPOCHLOG_"
OTHER_NAMES = {
    "kubeconfig": "KUBECONFIG",
    "mlflow_tracking_uri": "MLFLOW_TRACKING_URI",
    "log_format": "LOG_FORMAT",
}
MIN_KEY_BYTES = 32
YEAR = 365 * 24 * 3600
BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}|arn:[\x21-\x7e]+")
KUBE_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
IMAGE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,499}$"
TRAINER_IMAGE = "ghcr.io/yourorg/trainer-ultralytics:v1.0.0"
DEFAULT_TEMPLATE = Path(__file__).parents[1] / "deploy" / "job-template.yaml"
"""It lies beside the package, in a checkout and where the wheel is installed."""


class ExecutorKind(StrEnum):
    """Who starts the trainer."""

    LOCAL = "local"  # a subprocess of this service
    KUBERNETES = "kubernetes"  # a Job of a cluster
    EXTERNAL = "external"  # somebody else: Slurm, a test, a notebook


class StorageType(StrEnum):
    """Where datasets and checkpoints lie."""

    LOCAL = "local"  # a folder
    S3 = "s3"
    R2 = "r2"


class StorageAccess(StrEnum):
    """What lets a trainer read and write there."""

    KEYS = "keys"  # keys of the object store, in its environment
    PRESIGNED = "presigned"  # addresses that the service signs for it, one object at a time


class LogLevel(StrEnum):
    """The least severity that is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class LogFormat(StrEnum):
    """How trainers write their lines."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """A variable with our prefix that no setting reads, and the one that was likely meant."""

    name: str
    suggestion: str | None

    def __str__(self) -> str:
        """Say it in one sentence."""
        meant = f"; did you mean {self.suggestion}?" if self.suggestion else "."
        return f"{self.name} is not a setting of this service{meant}"


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    # Reading the port is what checks it.
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError
    if parts.query or parts.fragment or any(letter.isspace() for letter in value):
        raise ValueError
    return value.rstrip("/")


def _postgres_url(value: str) -> str:
    if not value.startswith(("postgres://", "postgresql://")):
        raise ValueError
    urlsplit(value)
    return value


def _key(value: str) -> str:
    if len(value.encode()) < MIN_KEY_BYTES:
        raise ValueError
    return value


def _split_at_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _split_as_shell(value: object) -> object:
    return tuple(shlex.split(value)) if isinstance(value, str) else value


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links


def _folder_if_local(value: str, info: ValidationInfo) -> str:
    local = info.data.get("storage_type") is StorageType.LOCAL
    return str(_absolute(Path(value))) if local else value


def _folder_or_bucket(value: str) -> str:
    if not value.startswith("s3://"):
        if "://" in value:
            raise ValueError
        return str(_absolute(Path(value)))
    bucket = value.removeprefix("s3://").split("/")[0]
    if not bucket or any(letter.isspace() for letter in value):
        raise ValueError
    return value.rstrip("/")


Url = Annotated[str, AfterValidator(_http_url)]
# Longer than a week no S3 signature lasts.
PresignSeconds = Annotated[float, Field(ge=60, le=604800, allow_inf_nan=False)]
DatabaseUrl = Annotated[str, AfterValidator(_postgres_url)]
Key = Annotated[str, AfterValidator(_key)]
Keys = Annotated[tuple[Key, ...], BeforeValidator(_split_at_commas)]
Command = Annotated[tuple[str, ...], BeforeValidator(_split_as_shell), Field(min_length=1)]
Bucket = Annotated[str, AfterValidator(_folder_if_local)]
ArchiveUrl = Annotated[str, AfterValidator(_folder_or_bucket)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Duration = Annotated[float, Field(gt=0, le=YEAR, allow_inf_nan=False)]
DurationOrZero = Annotated[float, Field(ge=0, le=YEAR, allow_inf_nan=False)]

SECONDS = "a number of seconds above 0 and at most a year"
SECONDS_OR_ZERO = "a number of seconds from 0 to a year"
AN_HTTP_URL = "a URL such as {} (http or https, without a query)"
A_KEY = f"a secret of at least {MIN_KEY_BYTES} bytes"


def _default_bucket(data: dict[str, Any]) -> str:
    local = data["storage_type"] is StorageType.LOCAL
    return str(data["state_dir"] / "storage") if local else ""


def _default_archive(data: dict[str, Any]) -> str:
    return str(data["state_dir"] / "archive")


def _default_tracking(data: dict[str, Any]) -> str | None:
    local = data["executor"] is ExecutorKind.LOCAL
    return f"sqlite:///{data['state_dir']}/mlflow.db" if local else None


def _default_heartbeat(data: dict[str, Any]) -> float:
    # A short timeout alone must not make every healthy trainer look silent.
    return min(30.0, float(data["heartbeat_timeout"]) / 3)


class Settings(BaseModel):
    """Everything the service is told from outside; a field's description is what it needs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )

    state_dir: AbsolutePath = Field(Path(".epochlog"), description="a folder's path")
    database_url: DatabaseUrl | None = Field(
        None, repr=False, description="a URL such as postgresql://user:password@host:5432/epochlog"
    )
    host: str = Field(
        "127.0.0.1",
        pattern=r"^[A-Za-z0-9._:%-]+$",
        description="a host name or an address to listen on, without a port",
    )
    port: int = Field(8080, ge=0, le=65535, description="a port from 0 (any free one) to 65535")
    public_url: Url | None = Field(
        None, description=AN_HTTP_URL.format("https://epochlog.example.org")
    )

    secret_key: Key | None = Field(None, repr=False, description=A_KEY)
    secret_keys_old: Keys = Field((), repr=False, description=f"{A_KEY}, or several with commas")
    api_token: str | None = Field(
        None,
        repr=False,
        pattern=r"^[\x21-\x7e]+$",
        description="a token of visible ASCII characters without spaces",
    )

    executor: ExecutorKind = Field(
        ExecutorKind.LOCAL,
        description="`local`, `kubernetes` or `external`",
    )
    trainer_command: Command = Field(
        (sys.executable, "-m", "trainer"), repr=False, description="a command in a shell's quoting"
    )
    local_slots: int = Field(1, ge=1, le=1024, description="a whole number from 1 to 1024")
    kubeconfig: str | None = Field(None, description="a kubeconfig file's path")
    kube_context: str | None = Field(
        None, max_length=500, description="the name of a context in the kubeconfig"
    )
    kube_namespace: str = Field(
        "default",
        pattern=KUBE_NAME,
        description="the name of a namespace: small letters, digits and hyphens",
    )
    clusters: AbsolutePath | None = Field(None, description="the path of a YAML file")
    trainer_image: str = Field(
        TRAINER_IMAGE,
        pattern=IMAGE_NAME,
        description=f"the name of an image such as {TRAINER_IMAGE}",
    )
    job_template: AbsolutePath = Field(
        DEFAULT_TEMPLATE, description="the path of a YAML file with a Job"
    )

    storage_type: StorageType = Field(StorageType.LOCAL, description="`local`, `s3` or `r2`")
    storage_access: StorageAccess = Field(StorageAccess.KEYS, description="`keys` or `presigned`")
    presign_ttl: PresignSeconds = Field(3600, description="a number of seconds, from 60 to 604800")
    bucket: Bucket = Field(
        default_factory=_default_bucket,
        description="a bucket's name, or with the storage type `local` a folder's path",
    )
    s3_endpoint: Url | None = Field(None, description=AN_HTTP_URL.format("https://s3.example.org"))
    mlflow_tracking_uri: str | None = Field(
        default_factory=_default_tracking, repr=False, description="a URI that MLflow understands"
    )

    heartbeat_timeout: Duration = Field(300, description=SECONDS)
    heartbeat_seconds: DurationOrZero = Field(
        default_factory=_default_heartbeat,
        description=f"{SECONDS_OR_ZERO} (0: a heartbeat at the end of an epoch only)",
    )
    stall_timeout: Duration = Field(1800, description=SECONDS)
    queue_timeout: DurationOrZero = Field(0, description=f"{SECONDS_OR_ZERO} (0: no limit)")
    done_grace: DurationOrZero = Field(120, description=SECONDS_OR_ZERO)
    cancel_grace: DurationOrZero = Field(30, description=SECONDS_OR_ZERO)
    stop_grace: DurationOrZero = Field(30, description=SECONDS_OR_ZERO)
    retry_backoff: DurationOrZero = Field(30, description=SECONDS_OR_ZERO)
    image_pull_grace: DurationOrZero = Field(180, description=SECONDS_OR_ZERO)
    token_ttl: Duration = Field(21600, description=SECONDS)
    token_renewal: DurationOrZero = Field(604800, description=f"{SECONDS_OR_ZERO} (0: never)")
    compact_after: DurationOrZero = Field(0, description=f"{SECONDS_OR_ZERO} (0: never)")
    archive_url: ArchiveUrl = Field(
        default_factory=_default_archive,
        description="a folder's path, or a URL such as s3://bucket/prefix",
    )
    partition_events: int = Field(
        1_000_000, ge=1, le=1_000_000_000, description="a whole number from 1 to 1000000000"
    )
    anchor_seconds: DurationOrZero = Field(300, description=f"{SECONDS_OR_ZERO} (0: never)")
    max_interruptions: int = Field(
        10, ge=0, le=1_000_000, description="a whole number from 0 to 1000000"
    )

    log_level: LogLevel = Field(
        LogLevel.INFO, description="DEBUG, INFO, WARNING, ERROR or CRITICAL"
    )
    log_format: LogFormat = Field(LogFormat.TEXT, description="`text` or `json`")
    unknown: tuple[UnknownVariable, ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Return the settings `environ` asks for; an empty variable counts as unset."""
        stripped = {name: value.strip() for name, value in environ.items()}
        given = {field: stripped[name] for field, name in VARIABLES.items() if stripped.get(name)}
        try:
            return cls(**given, unknown=unknown_variables(environ))
        except ValidationError as error:
            # `from None`: pydantic's own text is no sentence, and may show a part of a secret.
            raise SettingsError(_sentence(error.errors(include_input=False))) from None

    @model_validator(mode="after")
    def _what_goes_together(self) -> Self:
        if self.database_url and not self.secret_key:
            raise ValueError(
                f"EPOCHLOG_SECRET_KEY needs {A_KEY}, because EPOCHLOG_DATABASE_URL is set"
            )
        if self.storage_type is not StorageType.LOCAL and not BUCKET_NAME.fullmatch(self.bucket):
            raise ValueError(
                "EPOCHLOG_BUCKET needs a bucket's name such as trainings,"
                f" because EPOCHLOG_STORAGE_TYPE is {self.storage_type}"
            )
        if self.storage_type is StorageType.R2 and not self.s3_endpoint:
            raise ValueError(
                f"EPOCHLOG_S3_ENDPOINT needs {AN_HTTP_URL.format('https://r2.example.org')},"
                " because EPOCHLOG_STORAGE_TYPE is r2"
            )
        if (
            self.storage_access is StorageAccess.PRESIGNED
            and self.storage_type is StorageType.LOCAL
        ):
            raise ValueError(
                "EPOCHLOG_STORAGE_ACCESS needs to be `keys`,"
                " because EPOCHLOG_STORAGE_TYPE is local: there is nothing to sign for a folder"
            )
        if self.clusters and self.kube_context:
            raise ValueError(
                "EPOCHLOG_KUBE_CONTEXT needs to be unset,"
                " because EPOCHLOG_CLUSTERS names the contexts"
            )
        return self

    def doubts(self) -> Iterator[str]:
        """Say, in a sentence each, what starts and is hardly what anybody wants."""
        if self.executor is not ExecutorKind.KUBERNETES:
            return
        if self.public_url is None and self.host in {"127.0.0.1", "localhost", "::1"}:
            yield (
                "EPOCHLOG_PUBLIC_URL is not set: trainings would call back to"
                f" {self.host} and find nobody there."
            )
        if self.storage_type is StorageType.LOCAL:
            yield (
                "EPOCHLOG_STORAGE_TYPE is local: a pod sees the folder EPOCHLOG_BUCKET only where"
                " the Job template mounts it."
            )

    @property
    def token_reach(self) -> float:
        """For how many seconds after it was issued a callback token may still be of use."""
        return self.token_ttl + self.token_renewal

    def local_url(self, port: int) -> str:
        """Return where this machine reaches the service that listens on `port`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def trainer_url(self, port: int) -> str:
        """Return where trainers reach the service that listens on `port`."""
        return self.public_url or self.local_url(port)


VARIABLES = {
    field: OTHER_NAMES.get(field, PREFIX + field.upper())
    for field in Settings.model_fields
    if field != "unknown"
}


def unknown_variables(environ: Mapping[str, str]) -> tuple[UnknownVariable, ...]:
    """Return each variable that carries our prefix and is no setting: most likely a typo."""
    known = tuple(VARIABLES.values())
    return tuple(
        UnknownVariable(name, next(iter(get_close_matches(name, known, n=1, cutoff=0.8)), None))
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known
    )


def _sentence(errors: list[ErrorDetails]) -> str:
    """Name each wrong variable once, with what it needs and never with what it held."""
    wrong = dict.fromkeys(
        _what_is_wrong(error) for error in errors if error["type"] != "default_factory_not_called"
    )
    return "; ".join(wrong) + "."


def _what_is_wrong(error: ErrorDetails) -> str:
    if not error["loc"]:
        return str(error["ctx"]["error"])
    field = str(error["loc"][0])
    return f"{VARIABLES[field]} needs {Settings.model_fields[field].description}"
