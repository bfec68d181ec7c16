"""Who has a database open, as seen by a host that is not root."""

import json
import os
import subprocess
import sys

# Runs as nobody, if it can; a child of it has ended and is not buried: it is there, and its open files can't be listed.
LOOK = """
import json, os, subprocess, sys
import psutil
from remediation.effects.sqlite.holders import holding

if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
mine = os.getuid()
before = min(holding([(0, 0)], could_write=lambda uid: uid == mine).hidden for _ in range(3))
child = os.fork()
if child == 0:
    os._exit(0)
os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
assert psutil.Process(child).status() == psutil.STATUS_ZOMBIE
try:
    os.listdir(f"/proc/{child}/fd")
    listed = True
except PermissionError:
    listed = False
# The least of several looks: others of this user may come and go.
after = min(holding([(0, 0)], could_write=lambda uid: uid == mine).hidden for _ in range(3))
print(json.dumps([listed, before, after]))
"""


def test_a_process_that_has_ended_and_is_not_buried_hides_nothing() -> None:
    ran = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=60, check=False, env=os.environ)
    assert ran.returncode == 0, ran.stderr
    listed, before, after = json.loads(ran.stdout)
    assert not listed, "the kernel does not let anybody but root look"
    assert after <= before
