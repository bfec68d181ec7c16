"""Bounds: what is not named is not covered."""

from typing import Any

import pytest
from tests.support.folding import effect, plan

from remediation.core.bounds import beyond
from remediation.model.runbook import Bounds
from remediation.ports.world import Touches

ALLOWED = Bounds(kinds=("file.write",), paths=("/srv/app",), argv_prefixes=(("systemctl", "restart"),), controls=("resume",))


def why(**touched: Any) -> str:
    approved = plan(effect("a:0:0"))
    later = plan(effect("a:1:0"), stage=1)
    return beyond(ALLOWED, approved, [later], [Touches(**touched)])


@pytest.mark.parametrize(
    "touched",
    [
        {"paths": ("/srv/app/x",)},
        {"argv": ("systemctl", "restart", "app")},
        {"argv": ("systemctl", "restart", "app"), "cwd": "/srv/app", "beside": (("systemctl", "restart", "old"),)},
        {"controls": ("resume",)},
    ],
)
def test_what_is_named_is_covered(touched: dict[str, Any]) -> None:
    assert why(**touched) == ""


@pytest.mark.parametrize(
    ("touched", "reason"),
    [
        ({}, "does not say what it reaches for"),
        ({"paths": ("/srv/other",)}, "/srv/other"),
        ({"destroys": ("/srv/other",)}, "/srv/other"),
        ({"argv": ("rm", "-rf", "/srv/app")}, "rm"),
        ({"argv": ("systemctl", "restart", "app"), "beside": (("rm", "-rf", "/srv/x"),)}, "rm"),
        ({"argv": ("systemctl", "restart", "app"), "cwd": "/elsewhere"}, "/elsewhere"),
        ({"argv": ("systemctl", "restart", "app"), "env": ("LD_PRELOAD",)}, "LD_PRELOAD"),
        ({"controls": ("erase",)}, "erase"),
        ({"units": ("app.service",)}, "app.service"),
    ],
)
def test_what_is_not_named_asks_again(touched: dict[str, Any], reason: str) -> None:
    assert reason in why(**touched)
