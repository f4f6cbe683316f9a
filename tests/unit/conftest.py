"""Fixtures over every family of backbones."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import CONFIGS, random_model


@pytest.fixture(params=sorted(CONFIGS))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(family: str) -> Any:
    return random_model(family)
