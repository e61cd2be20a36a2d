"""x"""
from tests.scenarios.row import Row
HARD_CASES: tuple[Row, ...] = ()
