from __future__ import annotations

from bench.overhead import Overhead, overhead


def test_each_training_is_compared_with_its_neighbour() -> None:
    found = overhead([10.0, 20.0, 10.0], [10.1, 20.0, 12.0])

    assert found == Overhead(median=1.0, lowest=0.0, highest=20.0)
