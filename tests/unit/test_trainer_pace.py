from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trainer.pace import Pace

BATCHES, IMAGES, EPOCHS = 10, 95, 4


def run_epoch(pace: Pace, number: int, began: float, batch: float, validation: float) -> float:
    """One epoch whose batches take as long each; when it is over."""
    now = began
    pace.epoch_started(now, epoch=number, epochs=EPOCHS, batches=BATCHES, images=IMAGES)
    for _ in range(BATCHES):
        now += batch
        pace.batch_ended(now)
    now += validation
    pace.epoch_ended(now)
    return now


def test_before_the_first_batch_nothing_is_said() -> None:
    pace = Pace()
    assert pace.facts(1.0) == {}
    pace.epoch_started(1.0, epoch=1, epochs=EPOCHS, batches=BATCHES, images=IMAGES)

    assert pace.facts(2.0) == {}


def test_the_speed_is_that_of_the_batches_and_not_of_the_validation() -> None:
    pace = Pace()
    run_epoch(pace, 1, 100.0, batch=0.5, validation=7.0)

    assert pace.images_per_second() == IMAGES / 5


def test_the_first_epoch_guesses_from_its_batches() -> None:
    pace = Pace()
    pace.epoch_started(0.0, epoch=1, epochs=EPOCHS, batches=BATCHES, images=IMAGES)
    pace.batch_ended(2.0)

    assert pace.seconds_left(2.0) == 18 + 3 * 20


def test_whole_epochs_count_with_their_validation() -> None:
    pace = Pace()
    end = run_epoch(pace, 1, 0.0, batch=1.0, validation=5.0)
    assert pace.seconds_left(end) == 3 * 15
    pace.epoch_started(end + 1, epoch=2, epochs=EPOCHS, batches=BATCHES, images=IMAGES)

    assert pace.seconds_left(end + 1 + 4) == 15.5 - 4 + 2 * 15.5


def test_after_the_last_epoch_nothing_is_left() -> None:
    pace = Pace()
    now = 0.0
    for number in range(1, EPOCHS + 1):
        now = run_epoch(pace, number, now, batch=1.0, validation=0.0)

    assert pace.facts(now) == {"images_per_second": 9.5, "eta_seconds": 0.0}


@given(
    st.lists(st.floats(0, 10), max_size=12),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0, 1000),
)
def test_no_number_is_ever_negative(
    steps: list[float], epoch: int, epochs: int, later: float
) -> None:
    pace, now = Pace(), 0.0
    pace.epoch_started(now, epoch=epoch, epochs=epochs, batches=BATCHES, images=IMAGES)
    for step in steps:
        now += step
        pace.batch_ended(now)

    assert all(value >= 0 for value in pace.facts(now + later).values())
