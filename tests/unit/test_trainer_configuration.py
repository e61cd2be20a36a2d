from __future__ import annotations

from pathlib import Path

import pytest

from trainer.configuration import read_configuration
from trainer.errors import ConfigurationError, ParamsInvalidError
from trainer.offline import offline_environment
from trainer.params import REFUSED, read_params, resolve_model

GIVEN = {
    "JOB_ID": "7",
    "ATTEMPT": "2",
    "TRACE_ID": "abc-def",
    "BACKEND_BASE_URL": "http://127.0.0.1:8080/",
    "CALLBACK_TOKEN": "very-secret",
    "STORAGE_TYPE": "local",
    "BUCKET": "/data",
    "DATASET_ID": "shapes",
    "MODEL_NAME": "yolov8n",
    "EPOCHS": "3",
}


def test_what_is_not_given_has_its_default() -> None:
    configuration = read_configuration(GIVEN)

    assert (configuration.imgsz, configuration.batch) == (640, 16)
    assert configuration.heartbeat_seconds == 30
    assert configuration.base_url == "http://127.0.0.1:8080"
    assert configuration.resume_from is None
    assert configuration.train_params == "{}"
    assert configuration.log_format == "text"


def test_an_empty_variable_is_a_missing_one() -> None:
    assert read_configuration(GIVEN | {"RESUME_FROM": "", "IMGSZ": ""}).imgsz == 640


def test_ultralytics_may_choose_the_batch() -> None:
    assert read_configuration(GIVEN | {"BATCH": "-1"}).batch == -1


def test_the_token_is_not_shown() -> None:
    assert "very-secret" not in repr(read_configuration(GIVEN))


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_a_missing_variable_is_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"The variable {name} is missing"):
        read_configuration({key: value for key, value in GIVEN.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JOB_ID", "0"),
        ("ATTEMPT", "one"),
        ("TRACE_ID", "two lines\nfake"),
        ("TRACE_ID", "00000000-0000-0000-0000-000000000000"),
        ("BACKEND_BASE_URL", "localhost:8080"),
        ("STORAGE_TYPE", "ftp"),
        ("EPOCHS", "0"),
        ("IMGSZ", "16"),
        ("BATCH", "0"),
        ("HEARTBEAT_SECONDS", "-1"),
        ("HEARTBEAT_SECONDS", "nan"),
        ("HEARTBEAT_SECONDS", "often"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"The variable {name} must be"):
        read_configuration(GIVEN | {name: value})


@pytest.mark.parametrize("name", ["s3://trainings", "my trainings", "trainings/prefix"])
def test_what_is_no_buckets_name_is_refused_before_anybody_is_asked(name: str) -> None:
    with pytest.raises(ConfigurationError, match="The variable BUCKET must be"):
        read_configuration(GIVEN | {"STORAGE_TYPE": "s3", "BUCKET": name})
    read_configuration(GIVEN | {"BUCKET": f"/data/{name}"})


def test_training_arguments_pass_as_they_are() -> None:
    assert read_params('{"lr0": 0.01, "device": "cpu"}') == {"lr0": 0.01, "device": "cpu"}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_argument_that_would_break_the_trainer_is_refused_by_name(name: str) -> None:
    with pytest.raises(ParamsInvalidError, match=f"The parameter {name} cannot be set"):
        read_params(f'{{"{name}": 1}}')


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "no json",
        '{"pretrained": "weights.pt"}',
        '{"optimizer": "http://elsewhere"}',
        '{"device": [0, 1]}',
        '{"device": "0,1"}',
    ],
)
def test_an_argument_that_reaches_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(ParamsInvalidError):
        read_params(text)


@pytest.mark.parametrize("name", ["yolov8n", "yolov8n.yaml"])
def test_a_bare_model_name_is_its_architecture(name: str) -> None:
    assert resolve_model(name) == "yolov8n.yaml"


def test_weights_that_are_here_are_used_as_they_are(tmp_path: Path) -> None:
    weights = tmp_path / "mine.pt"
    weights.touch()

    assert resolve_model(str(weights)) == resolve_model(str(tmp_path / "mine")) == str(weights)


@pytest.mark.parametrize(
    "name", ["yolov8n.pt", "http://x/y.pt", "../secret.yaml", "/etc/model.yaml", ""]
)
def test_a_model_that_would_have_to_be_fetched_is_refused(name: str) -> None:
    with pytest.raises(ParamsInvalidError):
        resolve_model(name)


def test_the_libraries_write_into_the_work_folder_and_ask_nobody(tmp_path: Path) -> None:
    variables = offline_environment(tmp_path, {"OMP_NUM_THREADS": "3"})

    assert variables["YOLO_OFFLINE"] == "1"
    assert variables["YOLO_CONFIG_DIR"].startswith(str(tmp_path))
    assert variables["OMP_NUM_THREADS"] == "3"
