"""x"""
from tests.scenarios.row import Row
OWN: tuple[Row, ...] = ()
