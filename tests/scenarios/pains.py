"""x"""
from tests.scenarios.row import Row
PAINS: tuple[Row, ...] = ()
