from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.events import Callback, Done, Heartbeat, TrainerEvent
from projections.progress import Progress, advance, checkpoint_in
from tests import generated

TEN = Progress(epochs=10)


def after(*callbacks: Callback, start: Progress = TEN) -> Progress:
    return reduce(advance, callbacks, start)


def epoch_end(epoch: Any, **data: Any) -> TrainerEvent:
    return TrainerEvent(type="epoch_end", data={"epoch": epoch, **data})


@pytest.mark.parametrize(
    ("callbacks", "fraction"),
    [
        pytest.param([], 0.0, id="nothing yet"),
        pytest.param([epoch_end(3)], 0.3, id="an epoch ended"),
        pytest.param([Heartbeat(epoch=3)], 0.3, id="a heartbeat between epochs"),
        pytest.param([Heartbeat(epoch=3, batch=0, batches=8)], 0.2, id="an epoch has begun"),
        pytest.param([Heartbeat(epoch=3, batch=4, batches=8)], 0.25, id="half of an epoch"),
        pytest.param([Heartbeat(epoch=3, batch=8, batches=8)], 0.3, id="all batches of an epoch"),
        pytest.param(
            [Heartbeat(epoch=3, batch=9, batches=8)], 0.3, id="more batches than there are"
        ),
        pytest.param([Heartbeat(epoch=3, batch=4)], 0.2, id="batches without an end"),
        pytest.param([Heartbeat(epoch=0, batch=4, batches=8)], 0.05, id="epochs counted from 0"),
        pytest.param([Heartbeat(batch=4, batches=8)], 0.05, id="batches and no epoch"),
        pytest.param([epoch_end(12)], 1.0, id="more epochs than were asked for"),
        pytest.param([Heartbeat(epoch=2, epochs=4)], 0.5, id="the trainer knows better how many"),
        pytest.param([Heartbeat(epoch=1, progress=0.7)], 0.7, id="the trainer says so itself"),
        pytest.param([Heartbeat(progress=0.7), epoch_end(3)], 0.7, id="never back"),
        pytest.param([Heartbeat(progress=1.5)], 1.0, id="never over 1"),
        pytest.param([epoch_end(3), Done(status="failed")], 0.3, id="failed where it was"),
        pytest.param([epoch_end(3), Done(status="succeeded")], 1.0, id="stopped early and done"),
    ],
)
def test_the_fraction(callbacks: list[Callback], fraction: float) -> None:
    assert after(*callbacks).fraction == pytest.approx(fraction)


def test_a_job_of_unknown_length_has_no_fraction() -> None:
    assert after(epoch_end(3), start=Progress()).fraction == 0.0


@pytest.mark.parametrize(
    ("late", "stays"),
    [
        pytest.param(epoch_end(2), (3, None), id="an earlier epoch's end"),
        pytest.param(Heartbeat(epoch=3, batch=7, batches=8), (3, None), id="a batch of it"),
        pytest.param(Heartbeat(epoch=2), (3, None), id="an earlier heartbeat"),
        pytest.param(epoch_end(3), (3, None), id="the same again"),
    ],
)
def test_what_comes_late_does_not_turn_progress_back(
    late: Callback, stays: tuple[int, int | None]
) -> None:
    progress = after(epoch_end(3), late)

    assert (progress.epoch, progress.batch) == stays


def test_an_epochs_end_is_further_than_its_last_batch() -> None:
    progress = after(Heartbeat(epoch=3, batch=8, batches=8), epoch_end(3))

    assert (progress.epoch, progress.batch, progress.batches) == (3, None, None)


def test_metrics_of_several_callbacks_stand_side_by_side() -> None:
    progress = after(
        Heartbeat(epoch=1, batch=1, metrics={"loss": 3.0}),
        epoch_end(1, metrics={"mAP50": 0.4, "best": True, "note": "x", "loss": 2.0}),
        Done(status="succeeded", metrics={"mAP50": 0.5}),
    )

    assert progress.metrics == {"loss": 2.0, "mAP50": 0.5}


def test_of_two_metrics_of_one_epoch_the_later_holds() -> None:
    progress = after(epoch_end(1, metrics={"loss": 2.0}), epoch_end(1, metrics={"loss": 1.0}))

    assert progress.metrics == {"loss": 1.0}


def test_metrics_of_an_earlier_epoch_that_come_late_add_names_only() -> None:
    progress = after(
        epoch_end(3, metrics={"loss": 1.0}), epoch_end(2, metrics={"loss": 2.0, "lr": 0.1})
    )

    assert progress.metrics == {"loss": 1.0, "lr": 0.1}


@pytest.mark.parametrize(
    "callback",
    [Heartbeat(metrics={"n": 2**53 + 1}), epoch_end(1, metrics={"n": 2**53 + 1})],
    ids=["heartbeat", "epoch_end"],
)
def test_a_metric_is_a_decimal_as_it_is_when_it_was_stored(callback: Callback) -> None:
    assert type(after(callback).metrics["n"]) is float


@pytest.mark.parametrize(
    "data",
    [
        {"epoch": "3"},
        {"epoch": True},
        {"epoch": -1},
        {"epoch": 2.5},
        {"epoch": 0},
        {"epoch": 10**400},
        {"epoch": None, "metrics": [1, 2]},
        {"metrics": {"loss": "low", "lr": False, "n": 10**400}},
        {},
    ],
    ids=str,
)
def test_free_data_that_is_no_count_moves_nothing(data: dict[str, Any]) -> None:
    assert after(TrainerEvent(type="epoch_end", data=data)) == TEN


@pytest.mark.parametrize(
    ("event", "uri"),
    [
        (TrainerEvent(type="checkpoint_saved", data={"uri": "s3://b/last.pt"}), "s3://b/last.pt"),
        (TrainerEvent(type="checkpoint_saved", data={"uri": 3}), None),
        (TrainerEvent(type="checkpoint_saved"), None),
        (TrainerEvent(type="uploaded", data={"uri": "s3://b/x"}), None),
        (Heartbeat(), None),
    ],
    ids=["a checkpoint", "no text", "no address", "another event", "no event"],
)
def test_only_a_saved_checkpoint_can_be_resumed_from(event: Callback, uri: str | None) -> None:
    assert checkpoint_in(event) == uri


@given(st.lists(generated.callbacks, max_size=8))
def test_progress_never_goes_back(callbacks: list[Callback]) -> None:
    progress = TEN
    for callback in callbacks:
        before, progress = progress, advance(progress, callback)
        assert progress.epoch >= before.epoch
        assert 0.0 <= before.fraction <= progress.fraction <= 1.0
        assert set(before.metrics) <= set(progress.metrics)


@given(st.permutations([epoch_end(n, metrics={"loss": float(10 - n)}) for n in range(1, 6)]))
def test_epochs_in_any_order_lead_to_the_same_point(callbacks: list[Callback]) -> None:
    assert after(*callbacks) == after(epoch_end(5, metrics={"loss": 5.0}))
