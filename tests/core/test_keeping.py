"""Kept state is made of our own values: a snapshot that somebody else wrote makes nothing else."""

import os
import pickle

import pytest

from remediation.core import keeping
from remediation.core.incident import Status
from remediation.core.state import HostState


class Act:
    """Pickled, it runs something when it is read."""

    def __init__(self, what: object, *words: object) -> None:
        self.what, self.words = what, words

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.what, self.words


def test_our_own_values_come_back() -> None:
    value = {"status": Status.RESOLVED, "some": [1, "two", None, frozenset({3}), bytearray(b"4")]}
    assert keeping.loads(keeping.dumps(value)) == value


@pytest.mark.parametrize(
    "act",
    [Act(os.system, "false"), Act(eval, "1"), Act(getattr, "a", "upper"), Act(__import__, "os")],
    ids=["system", "eval", "getattr", "import"],
)
def test_nothing_is_run(act: Act) -> None:
    with pytest.raises(pickle.UnpicklingError, match="a snapshot holds no"):
        keeping.loads(pickle.dumps(act, protocol=5))
    with pytest.raises(pickle.UnpicklingError):
        HostState().restore(pickle.dumps({"incidents": act}, protocol=5))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("remediation.core.state", "keeping.pickle.loads"),  # through what a module imports
        ("remediation.core.state", "keeping"),  # no class
        ("remediation.core.state", "evolve"),  # a function
        ("remediation.model.base", "BaseModel"),  # a class of somebody else
        ("remediation.corex", "X"),
        ("remediation.cli.output", "ExitCode"),
        ("builtins", "eval"),
    ],
)
def test_no_detour_leads_further(module: str, name: str) -> None:
    content = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93."
    with pytest.raises((pickle.UnpicklingError, ImportError)):
        keeping.loads(content)
