"""Which version of the folds this build has."""

from __future__ import annotations

PROJECTIONS_VERSION = 4
"""Raised by whoever changes what a fold makes of events that are stored already. What an older
version has stored is then made again from the log before a service works on it."""
