import sys
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.settings import ExecutorKind, LogLevel, Settings, StorageAccess, StorageType

KEY = "k" * 32
ROOT = Path(__file__).parents[2]
ON_KUBERNETES = {
    "EPOCHLOG_EXECUTOR": "kubernetes",
    "EPOCHLOG_PUBLIC_URL": "https://epochlog.example.org",
    "EPOCHLOG_STORAGE_TYPE": "s3",
    "EPOCHLOG_BUCKET": "runs",
}
WITH_DATABASE = {"EPOCHLOG_DATABASE_URL": "postgresql://a:hunter2@db/epochlog"}


def test_an_empty_environment_gives_a_working_local_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    settings = Settings.from_env({})

    assert settings.state_dir == tmp_path / ".epochlog"
    assert settings.bucket == f"{tmp_path}/.epochlog/storage"
    assert settings.mlflow_tracking_uri == f"sqlite:///{tmp_path}/.epochlog/mlflow.db"
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert settings.trainer_command == (sys.executable, "-m", "trainer")
    assert settings.executor is ExecutorKind.LOCAL
    assert settings.database_url is settings.secret_key is settings.api_token is None
    assert settings.unknown == ()


def test_the_timers_have_the_contracts_defaults() -> None:
    settings = Settings.from_env({})

    assert settings.heartbeat_timeout == 300
    assert settings.stall_timeout == 1800
    assert settings.queue_timeout == 0
    assert settings.done_grace == 120
    assert settings.retry_backoff == 30
    assert settings.image_pull_grace == 180
    assert settings.token_ttl == 21600
    assert settings.token_renewal == 7 * 24 * 3600
    assert settings.max_interruptions == 10
    assert settings.cancel_grace == settings.stop_grace == settings.heartbeat_seconds == 30
    assert isinstance(settings.stall_timeout, float)


def test_every_setting_can_be_given() -> None:
    settings = Settings.from_env(
        WITH_DATABASE
        | {
            "EPOCHLOG_STATE_DIR": "/var/lib/epochlog",
            "EPOCHLOG_HOST": "::",
            "EPOCHLOG_PORT": " 0 ",
            "EPOCHLOG_PUBLIC_URL": "https://epochlog.example.org/",
            "EPOCHLOG_SECRET_KEY": KEY,
            "EPOCHLOG_SECRET_KEYS_OLD": f"{'a' * 32}, {'b' * 40},",
            "EPOCHLOG_API_TOKEN": "epl_x",
            "EPOCHLOG_EXECUTOR": "external",
            "EPOCHLOG_TRAINER_COMMAND": "python 'my trainer.py' --fast",
            "EPOCHLOG_LOCAL_SLOTS": "4",
            "EPOCHLOG_STORAGE_TYPE": "r2",
            "EPOCHLOG_STORAGE_ACCESS": "presigned",
            "EPOCHLOG_BUCKET": "runs",
            "EPOCHLOG_S3_ENDPOINT": "https://r2.example.org",
            "EPOCHLOG_TOKEN_RENEWAL": "0",
            "EPOCHLOG_HEARTBEAT_TIMEOUT": "1.5",
            "EPOCHLOG_HEARTBEAT_SECONDS": "0",
            "EPOCHLOG_RETRY_BACKOFF": "0.05",
            "EPOCHLOG_LOG_LEVEL": "DEBUG",
            "MLFLOW_TRACKING_URI": "https://mlflow.example.org",
            "KUBECONFIG": "/etc/kube",
            "EPOCHLOG_CLUSTERS": "/etc/clusters.yaml",
            "EPOCHLOG_KUBE_NAMESPACE": "training",
            "EPOCHLOG_TRAINER_IMAGE": "registry.example.org:5000/trainer@sha256:abc",
            "EPOCHLOG_JOB_TEMPLATE": "/etc/job.yaml",
        }
    )

    assert settings.state_dir == Path("/var/lib/epochlog")
    assert settings.port == 0
    assert settings.secret_keys_old == ("a" * 32, "b" * 40)
    assert settings.executor is ExecutorKind.EXTERNAL
    assert settings.trainer_command == ("python", "my trainer.py", "--fast")
    assert settings.local_slots == 4
    assert (settings.storage_type, settings.bucket) == (StorageType.R2, "runs")
    assert settings.storage_access is StorageAccess.PRESIGNED
    assert settings.token_reach == settings.token_ttl
    assert settings.heartbeat_timeout == 1.5
    assert settings.heartbeat_seconds == 0
    assert settings.retry_backoff == 0.05
    assert settings.log_level is LogLevel.DEBUG
    assert settings.mlflow_tracking_uri == "https://mlflow.example.org"
    assert settings.kubeconfig == "/etc/kube"
    assert settings.clusters == Path("/etc/clusters.yaml")
    assert settings.kube_namespace == "training"
    assert settings.trainer_image == "registry.example.org:5000/trainer@sha256:abc"
    assert settings.job_template == Path("/etc/job.yaml")
    assert settings.trainer_url(9999) == "https://epochlog.example.org"
    assert settings.local_url(9999) == "http://[::1]:9999"


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_env({"EPOCHLOG_PORT": "", "EPOCHLOG_SECRET_KEY": "  "}).port == 8080


def test_a_relative_local_bucket_becomes_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)

    assert Settings.from_env({"EPOCHLOG_BUCKET": "files"}).bucket == f"{tmp_path}/files"


def test_an_external_trainer_brings_its_own_tracking() -> None:
    assert Settings.from_env({"EPOCHLOG_EXECUTOR": "external"}).mlflow_tracking_uri is None


def test_a_short_heartbeat_timeout_shortens_the_heartbeat_too() -> None:
    assert Settings.from_env({"EPOCHLOG_HEARTBEAT_TIMEOUT": "6"}).heartbeat_seconds == 2


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:5"),
        ("0.0.0.0", "http://127.0.0.1:5"),  # noqa: S104
        ("::", "http://[::1]:5"),
        ("box.lan", "http://box.lan:5"),
    ],
)
def test_without_a_public_url_trainers_call_the_real_port(host: str, url: str) -> None:
    assert Settings.from_env({"EPOCHLOG_HOST": host}).trainer_url(5) == url


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EPOCHLOG_PORT", "70000"),
        ("EPOCHLOG_PORT", "-1"),
        ("EPOCHLOG_PORT", "http"),
        ("EPOCHLOG_HOST", "http://here"),
        ("EPOCHLOG_PUBLIC_URL", "epochlog.example.org"),
        ("EPOCHLOG_PUBLIC_URL", "ftp://epochlog.example.org"),
        ("EPOCHLOG_PUBLIC_URL", "http://epochlog.example.org:99999"),
        ("EPOCHLOG_PUBLIC_URL", "http://[::1"),
        ("EPOCHLOG_PUBLIC_URL", "http://a b"),
        ("EPOCHLOG_PUBLIC_URL", "http://a/?x=1"),
        ("EPOCHLOG_DATABASE_URL", "mysql://a:hunter2@db/x"),
        ("EPOCHLOG_SECRET_KEY", "short"),
        ("EPOCHLOG_SECRET_KEYS_OLD", f"{KEY},short"),
        ("EPOCHLOG_API_TOKEN", "two words"),
        ("EPOCHLOG_EXECUTOR", "slurm"),
        ("EPOCHLOG_KUBE_NAMESPACE", "Training"),
        ("EPOCHLOG_KUBE_NAMESPACE", "a_b"),
        ("EPOCHLOG_KUBE_CONTEXT", "x" * 501),
        ("EPOCHLOG_TRAINER_IMAGE", "our image"),
        ("EPOCHLOG_TRAINER_IMAGE", "-x"),
        ("EPOCHLOG_TRAINER_COMMAND", "python 'unclosed"),
        ("EPOCHLOG_LOCAL_SLOTS", "0"),
        ("EPOCHLOG_STORAGE_TYPE", "ftp"),
        ("EPOCHLOG_S3_ENDPOINT", "s3.example.org"),
        ("EPOCHLOG_HEARTBEAT_TIMEOUT", "0"),
        ("EPOCHLOG_HEARTBEAT_TIMEOUT", "nan"),
        ("EPOCHLOG_HEARTBEAT_TIMEOUT", "inf"),
        ("EPOCHLOG_STALL_TIMEOUT", "1e300"),
        ("EPOCHLOG_TOKEN_TTL", "-5"),
        ("EPOCHLOG_TOKEN_RENEWAL", "-1"),
        ("EPOCHLOG_STORAGE_ACCESS", "key"),
        ("EPOCHLOG_QUEUE_TIMEOUT", "-0.1"),
        ("EPOCHLOG_RETRY_BACKOFF", "soon"),
        ("EPOCHLOG_MAX_INTERRUPTIONS", "1.5"),
        ("EPOCHLOG_LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_never_shown(variable: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({variable: value})

    sentence = str(refused.value)
    assert sentence.startswith(f"{variable} needs ")
    assert "\n" not in sentence
    assert "hunter2" not in sentence
    assert "short" not in sentence
    assert refused.value.__cause__ is None


def test_several_wrong_values_share_one_sentence() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"EPOCHLOG_PORT": "x", "EPOCHLOG_HEARTBEAT_TIMEOUT": "y"})

    assert str(refused.value) == (
        "EPOCHLOG_PORT needs a port from 0 (any free one) to 65535;"
        " EPOCHLOG_HEARTBEAT_TIMEOUT needs a number of seconds above 0 and at most a year."
    )


@pytest.mark.parametrize(
    ("environ", "missing"),
    [
        (WITH_DATABASE, "EPOCHLOG_SECRET_KEY"),
        ({"EPOCHLOG_STORAGE_TYPE": "s3"}, "EPOCHLOG_BUCKET"),
        ({"EPOCHLOG_STORAGE_TYPE": "s3", "EPOCHLOG_BUCKET": "s3://b"}, "EPOCHLOG_BUCKET"),
        ({"EPOCHLOG_STORAGE_TYPE": "r2", "EPOCHLOG_BUCKET": "b"}, "EPOCHLOG_S3_ENDPOINT"),
    ],
)
def test_what_another_setting_asks_for_must_be_there(environ: dict[str, str], missing: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{missing} needs .*, because EPOCHLOG_"):
        Settings.from_env(environ)


def test_kubernetes_has_defaults_for_a_first_try() -> None:
    settings = Settings.from_env({"EPOCHLOG_EXECUTOR": "kubernetes"})

    assert settings.executor is ExecutorKind.KUBERNETES
    assert settings.kube_context is settings.kubeconfig is None
    assert settings.clusters is None
    assert settings.kube_namespace == "default"
    assert settings.trainer_image == "ghcr.io/yourorg/trainer-ultralytics:v1.0.0"
    assert settings.job_template == ROOT / "deploy" / "job-template.yaml"
    assert settings.job_template.is_file()
    assert settings.mlflow_tracking_uri is None  # no file of this machine is any pod's


def test_contexts_are_named_in_one_place() -> None:
    environ = {"EPOCHLOG_CLUSTERS": "clusters.yaml", "EPOCHLOG_KUBE_CONTEXT": "west"}

    with pytest.raises(SettingsError, match=r"^EPOCHLOG_KUBE_CONTEXT needs .*EPOCHLOG_CLUSTERS"):
        Settings.from_env(environ)


@pytest.mark.parametrize(
    ("environ", "doubted"),
    [
        ({}, []),
        ({"EPOCHLOG_EXECUTOR": "external"}, []),
        (ON_KUBERNETES, []),
        (ON_KUBERNETES | {"EPOCHLOG_PUBLIC_URL": ""}, ["EPOCHLOG_PUBLIC_URL"]),
        (ON_KUBERNETES | {"EPOCHLOG_PUBLIC_URL": "", "EPOCHLOG_HOST": "::"}, []),
        (ON_KUBERNETES | {"EPOCHLOG_STORAGE_TYPE": ""}, ["EPOCHLOG_STORAGE_TYPE"]),
    ],
)
def test_what_hardly_anybody_wants_is_doubted(environ: dict[str, str], doubted: list[str]) -> None:
    said = list(Settings.from_env(environ).doubts())

    assert [sentence.split(" ")[0] for sentence in said] == doubted


def test_a_typo_is_reported_with_what_was_meant() -> None:
    unknown = Settings.from_env({"EPOCHLOG_PROT": "1", "EPOCHLOG_QQ": "2", "OTHER": "3"}).unknown

    assert [str(variable) for variable in unknown] == [
        "EPOCHLOG_PROT is not a setting of this service; did you mean EPOCHLOG_PORT?",
        "EPOCHLOG_QQ is not a setting of this service.",
    ]


def test_settings_print_without_their_secrets() -> None:
    settings = Settings.from_env(
        WITH_DATABASE
        | {
            "EPOCHLOG_SECRET_KEY": KEY,
            "EPOCHLOG_SECRET_KEYS_OLD": "o" * 32,
            "EPOCHLOG_API_TOKEN": "epl_hidden",
        }
    )

    assert not any(secret in repr(settings) for secret in ("hunter2", KEY, "o" * 32, "epl_hidden"))
