from __future__ import annotations

import re
from pathlib import Path

from service.settings import VARIABLES

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")


def test_the_page_names_every_setting_and_no_other() -> None:
    assert set(re.findall(r"`((?:EPOCHLOG_|MLFLOW_|KUBECONFIG|LOG_FORMAT)[A-Z0-9_]*)`", PAGE)) - {
        "EPOCHLOG_"
    } == set(VARIABLES.values())
