"""What auditors get: the allowed signers in normal form."""

import stat

import pytest
import typer
from tests.support.ssh import NAMESPACE, made_key, public_key, stock_signature, stock_verifies

from remediation.cli.keys_signers import export_allowed_signers
from remediation.errors import ConfigurationError
from remediation.settings import Settings


@pytest.fixture
def settings(tmp_path):
    path = made_key(tmp_path)
    text = f'# people\n\nana   namespaces="{NAMESPACE}"   {public_key(path).line} her laptop\n'
    (tmp_path / "people").write_text(text)
    (tmp_path / "people").chmod(0o644)
    return Settings(base=tmp_path, approvals={"allowed_signers": "people"})


def test_it_is_printed_in_normal_form(settings, tmp_path, capsys):
    export_allowed_signers(settings, None)
    line = f'ana namespaces="{NAMESPACE}" {public_key(tmp_path / "id_ed25519").line}\n'
    assert capsys.readouterr().out == line


def test_a_file_of_it_serves_the_stock_ssh_keygen(settings, tmp_path):
    out = tmp_path / "out"
    export_allowed_signers(settings, str(out))
    assert stat.S_IMODE(out.stat().st_mode) & 0o022 == 0
    signature = stock_signature(tmp_path / "id_ed25519", b"plan")
    assert stock_verifies(tmp_path, out.read_text(), "ana", b"plan", signature)
    assert not stock_verifies(tmp_path, out.read_text(), "ana", b"another plan", signature)


def test_a_file_that_can_not_be_written_is_named(settings, tmp_path, capsys):
    with pytest.raises(typer.Exit):
        export_allowed_signers(settings, str(tmp_path / "nowhere" / "out"))
    assert "nowhere/out can't be written" in capsys.readouterr().err


def test_without_a_file_it_says_which_setting_is_missing(tmp_path, capsys):
    with pytest.raises(typer.Exit):
        export_allowed_signers(Settings(base=tmp_path), None)
    assert "[approvals] allowed_signers" in capsys.readouterr().err


def test_a_file_that_is_refused_is_not_exported(settings, tmp_path):
    (tmp_path / "people").write_text("*@example.com ssh-ed25519 AAAA\n")
    with pytest.raises(ConfigurationError, match="people, line 1"):
        export_allowed_signers(settings, None)


def test_the_command_exports_it(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from remediation.cli.app import app

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    home, out = tmp_path / "home", tmp_path / "out"
    run = CliRunner().invoke
    assert run(app, ["--home", str(home), "init", "--id", "atlas"]).exit_code == 0
    people = home / "people"
    people.write_text(f'ana namespaces="{NAMESPACE}" {public_key(made_key(tmp_path)).line} laptop\n')
    people.chmod(0o644)
    (home / "remediation.toml").write_text('[host]\nid = "atlas"\n[approvals]\nallowed_signers = "people"\n')
    done = run(app, ["--home", str(home), "keys", "export", "--allowed-signers", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.read_text() == people.read_text().replace(" laptop", "")
    for words in (["--out", str(out)], ["--allowed-signers", "--all"]):
        assert run(app, ["--home", str(home), "keys", "export", *words]).exit_code == 2
