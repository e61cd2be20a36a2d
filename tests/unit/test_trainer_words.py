from __future__ import annotations

from projections.trainer_words import trainer_detail, trainer_title

RESUMED = {"device": "cuda:0", "resumed_from": "s3://training/checkpoints/job-7/last.pt"}


def test_the_start_of_a_training_says_on_which_device() -> None:
    assert trainer_title("training_started", {"device": "cpu"}) == "Training starts on cpu"
    assert trainer_detail("training_started", {"device": "cpu"}) == ""


def test_a_resumed_one_says_from_where() -> None:
    assert trainer_title("training_started", RESUMED) == "Training starts on cuda:0"
    assert trainer_detail("training_started", RESUMED) == f"from {RESUMED['resumed_from']}"


def test_an_event_without_a_device_is_told_by_its_name() -> None:
    assert trainer_title("training_started", {}) == "The trainer says: training_started"


def test_a_last_word_that_was_cut_down_says_why() -> None:
    assert trainer_title("done_reduced", {}) == "The trainer's last word was cut down"
    assert trainer_detail("done_reduced", {"message": "It was refused."}) == "It was refused."
