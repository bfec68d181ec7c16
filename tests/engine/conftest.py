import pytest

from remediation import discovery


@pytest.fixture(autouse=True)
def _no_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "BUILTIN", ())
