"""docker-compose.yml as it is read where nothing but what it needs is given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

GIVEN = {"EPOCHLOG_SECRET_KEY": "k" * 32, "EPOCHLOG_API_TOKEN": "t"}
FILE = Path(__file__).parents[1] / "docker-compose.yml"


def _interpolated(match: re.Match[str]) -> str:
    return GIVEN.get(match.group(1), match.group(2))


TEXT = FILE.read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+):[?-]([^}]*)\}", _interpolated, TEXT))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
