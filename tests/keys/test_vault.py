"""The vault: what goes in comes out, nothing else does, and nothing old or foreign is believed."""

import copy
import json
import os
import pickle
import stat
import threading
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remediation.errors import ConfigurationError, CredentialRefused
from remediation.keys.credentials import Credentials
from remediation.keys.vault import RemediationKeyVault, SecretInfo
from remediation.keys.vault_file import MAX_SECRETS, Record, VaultKey, VaultRefused

ORIGIN = "atlas-1/remediation/5f0c3a9be2d1"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
VALUE = "hunter2-unique-value"


@pytest.fixture
def vault(tmp_path) -> RemediationKeyVault:
    return RemediationKeyVault(tmp_path, ORIGIN)


def reopened(vault: RemediationKeyVault) -> RemediationKeyVault:
    return RemediationKeyVault(vault.path.parent, ORIGIN)


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def restore(folder, saved: dict[str, bytes], *names: str) -> None:
    for name in names:
        path = folder / name
        path.unlink(missing_ok=True)
        path.write_bytes(saved[name])
        path.chmod(0o600)


def test_what_was_set_is_what_is_got(vault):
    assert vault.set("token", VALUE, at=AT) == SecretInfo("token", 1, "2026-03-01T12:00:00.000Z")
    assert reopened(vault).get("token") == vault.get("token") == VALUE


def test_a_folder_without_a_vault_is_an_empty_one_and_stays_empty(vault, tmp_path):
    assert vault.names() == vault.values() == ()
    with pytest.raises(CredentialRefused, match="secrets set token"):
        vault.get("token")
    assert not list(tmp_path.iterdir())


def test_each_value_of_a_name_has_a_version_and_a_time(vault):
    vault.set("token", "one", at=AT)
    vault.set("other", "x", at=AT)
    assert vault.set("token", "two").version == 2
    assert [(info.name, info.version) for info in reopened(vault).list()] == [("other", 1), ("token", 2)]
    assert reopened(vault).get("token") == "two"


def test_what_was_removed_is_gone(vault):
    vault.set("token", VALUE)
    vault.remove("token")
    assert reopened(vault).names() == ()
    with pytest.raises(CredentialRefused, match="nothing was removed"):
        vault.remove("token")


def test_only_the_owner_can_read_its_files_whatever_the_umask(vault, tmp_path):
    before = os.umask(0)
    try:
        vault.set("token", VALUE)
        vault.rotate()
    finally:
        os.umask(before)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == dict.fromkeys(
        ("vault.key", "vault.json", "vault.head", "vault.lock"), 0o600
    )


def test_no_file_holds_a_value_and_equal_values_look_different(vault, tmp_path):
    vault.set("one", VALUE)
    vault.set("two", VALUE)
    assert not any(VALUE.encode() in content for content in files(tmp_path).values())
    one, two = json.loads(vault.path.read_bytes())["records"]
    assert one["ciphertext"] != two["ciphertext"]


def test_a_value_set_again_is_encrypted_under_another_nonce(vault):
    vault.set("one", VALUE)
    before = json.loads(vault.path.read_bytes())["records"][0]
    vault.set("one", VALUE)
    after = json.loads(vault.path.read_bytes())["records"][0]
    assert before["nonce"] != after["nonce"]


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "ä", "a" * 65, "a\n", "a\0"])
def test_a_name_that_can_be_none_is_refused_without_being_quoted(vault, tmp_path, name):
    with pytest.raises(VaultRefused, match="1-64 letters"):
        vault.set(name, VALUE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["", "a\0b", "\udcff", "x" * (64 * 1024 + 1), "€" * 30_000])
def test_a_value_that_can_not_be_kept_is_refused_without_being_quoted(vault, tmp_path, value):
    with pytest.raises(VaultRefused) as refused:
        vault.set("token", value)
    assert not value or value not in str(refused.value)
    assert not list(tmp_path.iterdir())


@given(value=st.text(min_size=1, max_size=200), name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_survives(vault, name, value):
    if "\0" in value:
        return
    vault.set(name, value)
    assert reopened(vault).get(name) == value


def test_the_largest_value_survives_and_there_is_an_end_of_secrets(vault, monkeypatch):
    vault.set("large", "x" * 64 * 1024)
    assert len(reopened(vault).get("large")) == 64 * 1024
    assert MAX_SECRETS >= 100
    monkeypatch.setattr("remediation.keys.vault.MAX_SECRETS", 2)
    vault.set("two", "x")
    vault.set("two", "y")
    with pytest.raises(VaultRefused, match="holds 2 secrets"):
        vault.set("three", "x")


def test_another_object_sees_a_change_at_once(vault):
    other = reopened(vault)
    assert other.names() == ()
    for number in range(20):
        vault.set("token", f"value-{number}")
        assert other.get("token") == f"value-{number}"
    vault.remove("token")
    assert other.names() == ()


def test_the_values_to_mask_are_the_long_ones_also_those_that_were_replaced(vault):
    vault.set("short", "12345")
    vault.set("token", "first-value")
    host = reopened(vault)
    assert host.values() == ("first-value",)
    vault.set("token", "second-value")
    assert set(host.values()) == {"first-value", "second-value"}
    assert reopened(vault).values() == ("second-value",)


def test_values_are_still_masked_when_the_vault_was_damaged_meanwhile(vault):
    vault.set("token", VALUE)
    host = reopened(vault)
    assert host.values() == (VALUE,)
    vault.path.write_bytes(b"{}")
    assert host.values() == (VALUE,)
    with pytest.raises(VaultRefused):
        host.get("token")
    with pytest.raises(VaultRefused):
        reopened(vault).values()


@given(at=st.integers(0, 100_000), flip=st.integers(1, 255))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_altered_byte_of_the_file_is_believed(tmp_path_factory, at, flip):
    folder = tmp_path_factory.mktemp("vault")
    vault = RemediationKeyVault(folder, ORIGIN)
    vault.set("token", VALUE)
    vault.set("other", "x")
    content = bytearray(vault.path.read_bytes())
    at %= len(content)
    content[at] ^= flip
    vault.path.write_bytes(content)
    if at == len(content) - 1 and chr(content[at]).isspace():
        return  # white space after the document carries nothing
    with pytest.raises(VaultRefused) as refused:
        reopened(vault).get("token")
    assert VALUE not in str(refused.value)


def altered(vault, change) -> str:
    document = json.loads(vault.path.read_bytes())
    change(document)
    vault.path.write_text(json.dumps(document))
    with pytest.raises(VaultRefused) as refused:
        reopened(vault).get("one")
    assert VALUE not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["records"].pop(),
        lambda document: document["records"].reverse(),
        lambda document: document["records"][0].update(version=7),
        lambda document: document["records"][0].update(name="three"),
        lambda document: document["records"][0].update(set_at="2020-01-01T00:00:00.000Z"),
        lambda document: document.update(generation=99),
        lambda document: document.update(mac=document["mac"][::-1]),
        lambda document: [
            document["records"][0].update(ciphertext=document["records"][1]["ciphertext"], nonce=document["records"][1]["nonce"])
        ],
    ],
)
def test_records_that_were_swapped_renamed_or_taken_out_are_refused(vault, change):
    vault.set("one", VALUE)
    vault.set("two", "another value")
    assert "was altered, or put together from several files" in altered(vault, change)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(format="remediation-vault/2"),
        lambda document: document.update(format="something"),
        lambda document: document.update(generation="1"),
        lambda document: document.pop("mac"),
        lambda document: document.update(mac="ä"),
        lambda document: document.update(more=1),
    ],
)
def test_what_is_no_vault_is_refused(vault, change):
    vault.set("one", VALUE)
    assert "vault" in altered(vault, change)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"null", b'{"format":1.5}'])
def test_what_is_no_document_is_refused(vault, content):
    vault.set("one", VALUE)
    vault.path.write_bytes(content)
    with pytest.raises(VaultRefused, match="is damaged"):
        reopened(vault).get("one")


def test_a_record_is_bound_to_its_log_its_name_and_its_version():
    key = VaultKey.generate()
    record = key.encrypt(ORIGIN, "token", 3, "", VALUE)
    assert key.decrypt(ORIGIN, record) == VALUE
    for origin, name, version in (("other/remediation/1", "token", 3), (ORIGIN, "token2", 3), (ORIGIN, "token", 2)):
        with pytest.raises(VaultRefused, match="altered, or comes from elsewhere"):
            key.decrypt(origin, Record(name, version, "", record.nonce, record.ciphertext))
    with pytest.raises(VaultRefused):
        VaultKey.generate().decrypt(ORIGIN, record)


def test_lengths_keep_the_parts_apart():
    key = VaultKey.generate()
    record = key.encrypt("ab", "c", 1, "", VALUE)
    with pytest.raises(VaultRefused):
        key.decrypt("a", Record("bc", 1, "", record.nonce, record.ciphertext))


def test_an_old_record_in_a_newer_file_is_refused(vault, tmp_path):
    vault.set("one", "the old password")
    old = json.loads(vault.path.read_bytes())["records"][0]
    vault.set("one", VALUE)
    assert "altered" in altered(vault, lambda document: document.update(records=[old]))


def test_an_old_copy_of_the_file_is_refused_and_says_how_old(vault, tmp_path):
    vault.set("one", "the old password")
    saved = files(tmp_path)
    vault.set("one", VALUE)
    restore(tmp_path, saved, "vault.json")
    for stale in (vault, reopened(vault)):
        with pytest.raises(VaultRefused, match="changed 1 times, the vault 2 times"):
            stale.get("one")
    with pytest.raises(VaultRefused):
        reopened(vault).set("one", "x")


def test_a_running_host_notices_even_when_file_and_head_are_both_old(vault, tmp_path):
    vault.set("one", "the old password")
    saved = files(tmp_path)
    vault.set("one", VALUE)
    host = reopened(vault)
    assert host.get("one") == VALUE
    restore(tmp_path, saved, "vault.json", "vault.head")
    with pytest.raises(VaultRefused, match="old copy"):
        host.get("one")


def test_a_head_that_is_missing_or_damaged_is_refused(vault, tmp_path):
    vault.set("one", VALUE)
    vault.set("one", VALUE)
    (tmp_path / "vault.head").write_text("nonsense\n")
    with pytest.raises(VaultRefused, match="is damaged"):
        reopened(vault).get("one")
    (tmp_path / "vault.head").unlink()
    with pytest.raises(VaultRefused, match=r"vault.head is missing"):
        reopened(vault).get("one")


def test_a_vault_that_is_missing_although_there_was_one_is_refused(vault):
    vault.set("one", VALUE)
    vault.path.unlink()
    for opened in (vault, reopened(vault)):
        with pytest.raises(VaultRefused, match=r"vault.json is missing"):
            opened.set("one", "x")


def test_the_vault_of_another_log_is_refused_and_can_be_taken_over(vault, tmp_path):
    vault.set("one", VALUE)
    vault.set("two", "x")
    other = RemediationKeyVault(tmp_path, "atlas-1/remediation/000000000000")
    for use in (lambda: other.get("one"), lambda: other.set("one", "x"), other.names, other.rotate):
        with pytest.raises(VaultRefused, match=r"rotate --adopt"):
            use()
    assert other.rotate(adopt=True) == 2
    assert other.get("one") == VALUE
    assert RemediationKeyVault(tmp_path, "atlas-1/remediation/000000000000").get("one") == VALUE
    with pytest.raises(VaultRefused, match="is the vault of the log"):
        reopened(vault).get("one")


def test_another_vaults_file_is_refused(vault, tmp_path):
    vault.set("one", VALUE)
    (tmp_path / "other").mkdir()
    foreign = RemediationKeyVault(tmp_path / "other", ORIGIN)
    foreign.set("one", "foreign")
    vault.path.write_bytes(foreign.path.read_bytes())
    with pytest.raises(VaultRefused, match="the key of the vault"):
        reopened(vault).get("one")


def test_without_its_key_the_vault_says_what_to_do(vault, tmp_path):
    vault.set("one", VALUE)
    (tmp_path / "vault.key").unlink()
    with pytest.raises(VaultRefused, match=r"restore vault.key"):
        reopened(vault).set("two", "x")


@pytest.mark.parametrize("damage", ["chmod", "link", "garbage", "cut"])
def test_a_key_file_that_others_read_or_that_is_none_is_refused(vault, tmp_path, damage):
    vault.set("one", VALUE)
    key = tmp_path / "vault.key"
    if damage == "chmod":
        key.chmod(0o640)
    elif damage == "link":
        key.rename(tmp_path / "elsewhere")
        key.symlink_to(tmp_path / "elsewhere")
    elif damage == "garbage":
        key.write_bytes(os.urandom(60))
    else:
        key.write_bytes(key.read_bytes()[:-10])
    with pytest.raises(ConfigurationError) as refused:
        reopened(vault).get("one")
    assert "vault.key" in str(refused.value)


def test_rotation_exchanges_the_key_and_keeps_the_values(vault, tmp_path):
    vault.set("one", VALUE)
    vault.set("two", "x")
    host = reopened(vault)
    assert host.get("one") == VALUE
    before = files(tmp_path)
    assert reopened(vault).rotate() == 2
    after = files(tmp_path)
    assert before["vault.key"] != after["vault.key"]
    assert set(after) == {"vault.key", "vault.json", "vault.head", "vault.lock"}
    assert host.get("one") == vault.get("one") == VALUE
    assert [info.version for info in host.list()] == [1, 1]
    restore(tmp_path, before, "vault.key")
    with pytest.raises(VaultRefused):
        reopened(vault).get("one")


def test_there_is_nothing_to_rotate_without_a_vault(vault):
    with pytest.raises(VaultRefused, match="secrets set NAME"):
        vault.rotate()


def test_a_vault_can_be_kept_under_a_passphrase_and_out_of_it(tmp_path):
    asked: list[str] = []

    def passphrase(purpose: str) -> bytes:
        asked.append(purpose)
        return b"correct horse"

    vault = RemediationKeyVault(tmp_path, ORIGIN, passphrase=passphrase)
    vault.set("one", VALUE, sealed=True)
    vault.set("two", "x")
    assert vault.sealed
    assert len(asked) == 1, "a process asks once"
    assert RemediationKeyVault(tmp_path, ORIGIN, passphrase=passphrase).get("one") == VALUE
    with pytest.raises(VaultRefused, match="given none"):
        RemediationKeyVault(tmp_path, ORIGIN).get("one")
    with pytest.raises(VaultRefused, match="does not open"):
        RemediationKeyVault(tmp_path, ORIGIN, passphrase=lambda _: b"wrong").get("one")
    vault.rotate(sealed=False)
    assert not vault.sealed
    assert RemediationKeyVault(tmp_path, ORIGIN).get("one") == VALUE


def test_threads_change_it_one_after_the_other(vault, tmp_path):
    def work(number: int) -> None:
        mine = vault if number % 2 else reopened(vault)
        for turn in range(10):
            mine.set(f"name-{number}", f"value-{number}-{turn}")
            assert mine.get(f"name-{number}") == f"value-{number}-{turn}"

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(info.name, info.version) for info in reopened(vault).list()] == [(f"name-{number}", 10) for number in range(4)]
    assert json.loads(vault.path.read_bytes())["generation"] == 40


def test_it_can_not_be_shown_copied_or_pickled(vault):
    vault.set("one", VALUE)
    credentials = Credentials({"two": VALUE}, vault)
    key = VaultKey.generate()
    for thing in (vault, credentials, key):
        assert VALUE not in f"{thing!r} {thing!s} {thing}"
        for copying in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="not copied or pickled"):
                copying(thing)


def test_credentials_are_those_of_the_program_and_those_of_the_vault(vault):
    vault.set("one", VALUE)
    credentials = Credentials({"two": "from code", "short": "x"}, vault)
    assert set(credentials) == {"one", "two", "short"}
    assert len(credentials) == 3
    assert (credentials["one"], credentials["two"]) == (VALUE, "from code")
    assert credentials.get("three") is None
    assert "one" in credentials
    assert "three" not in credentials
    assert credentials.to_mask() == ("from code", VALUE)


def test_a_name_in_both_is_an_error_at_the_start_and_later_the_programs(vault):
    vault.set("one", VALUE)
    with pytest.raises(ConfigurationError, match="one are in the vault, and the program"):
        Credentials({"one": "x"}, vault)
    credentials = Credentials({"two": "from code"}, vault)
    vault.set("two", "from the vault")
    assert credentials["two"] == "from code"
    assert list(credentials) == ["two", "one"]
