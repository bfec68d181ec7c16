"""The vault between processes: no change is lost, and a kill anywhere leaves it whole."""

import json
import os
import signal
import subprocess
import sys

import pytest

from remediation.keys.vault import RemediationKeyVault

ORIGIN = "atlas-1/remediation/5f0c3a9be2d1"
WRITER = """
import sys
from remediation.keys.vault import RemediationKeyVault
vault = RemediationKeyVault(sys.argv[1], sys.argv[2])
for turn in range(15):
    vault.set("name-" + sys.argv[3], "value-%d" % turn)
    vault.set("shared", sys.argv[3])
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from remediation.keys import vault

folder, origin, change = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
before = "another/remediation/000000000000" if change == "adopt" else origin
left = 0

def counted(real):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return call

def child(place):
    for name in ("link", "rename", "unlink", "fsync", "open", "write"):
        setattr(os, name, counted(getattr(os, name)))
    opened = vault.RemediationKeyVault(place, origin)
    if change in ("rotate", "adopt"):
        opened.rotate(adopt=change == "adopt")
    else:
        opened.set("token", "new value")

for step in range(1, 200):
    place = folder / str(step)
    place.mkdir()
    if change != "first":
        there = vault.RemediationKeyVault(place, before)
        there.set("token", "old value")
        there.set("other", "stays")
    left = step
    # One process for all steps, and a fork of it for each: starting Python anew costs far more than the step.
    pid = os.fork()
    if pid == 0:
        try:
            child(place)
        except BaseException as error:
            os._exit(type(error).__name__.encode()[0])
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(code)
    if code == 0:
        break
"""


def started(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_processes_that_set_at_once_lose_nothing(tmp_path):
    writers = [started(WRITER, tmp_path, ORIGIN, number) for number in range(3)]
    for writer in writers:
        _, said = writer.communicate(timeout=120)
        assert writer.returncode == 0, said
    vault = RemediationKeyVault(tmp_path, ORIGIN)
    versions = {info.name: info.version for info in vault.list()}
    assert versions == {"name-0": 15, "name-1": 15, "name-2": 15, "shared": 45}
    assert vault.get("name-1") == "value-14"
    assert json.loads(vault.path.read_bytes())["generation"] == 90


@pytest.mark.parametrize("change", ["first", "set", "rotate", "adopt"])
def test_a_kill_between_any_two_steps_leaves_the_vault_before_the_change_or_after_it(tmp_path, change):
    process = started(KILLED, tmp_path, ORIGIN, change)
    said, wrong = process.communicate(timeout=120)
    assert process.returncode == 0, wrong
    codes = [int(line) for line in said.split()]
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0]
    assert len(codes) > 8
    for step in range(1, len(codes) + 1):
        folder = tmp_path / str(step)
        after = RemediationKeyVault(folder, ORIGIN)
        if change == "first":
            assert after.names() in ((), ("token",))
        else:
            if change == "adopt" and json.loads(after.path.read_bytes())["origin"] != ORIGIN:
                assert after.rotate(adopt=True) == 2
            assert after.get("token") in ("old value", "new value")
            assert after.get("other") == "stays"
        # And it goes on from there.
        after.set("token", "newest value")
        after.rotate()
        assert RemediationKeyVault(folder, ORIGIN).get("token") == "newest value"
        assert not [name for name in os.listdir(folder) if name.endswith((".next", ".old"))]
