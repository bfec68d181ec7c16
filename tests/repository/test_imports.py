"""Importing is free: it starts nothing, writes nothing, and loads no more than was asked for."""

import json
import subprocess
import sys

HEAVY = {
    "aiosqlite",
    "anyio",
    "asyncio",
    "cronsim",
    "cryptography",
    "libcst",
    "pluggy",
    "psutil",
    "pydantic",
    "rich",
    "sqlite3",
    "structlog",
    "typer",
}

# Reports the modules that an import loaded, and what it did to the machine, as the interpreter's audit events tell it.
PROBE = """
import json, pkgutil, importlib, sys
did, before = [], set(sys.modules)
def audit(event, args):
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+") and "__pycache__" not in str(args[0]):
        did.append(f"{event} {args[0]} {args[1]}")
    elif event.startswith(("socket.", "subprocess.", "sqlite3.", "os.fork", "os.exec", "os.posix_spawn", "os.system",
                           "os.mkdir", "os.remove", "os.rename", "_thread.start")):
        did.append(f"{event} {args!r}")
sys.addaudithook(audit)
%s
print(json.dumps({"did": did, "loaded": sorted({m.partition(".")[0] for m in set(sys.modules) - before})}))
"""

EVERY_MODULE = """
import remediation
for module in pkgutil.walk_packages(remediation.__path__, "remediation."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def probe(statement: str) -> dict[str, list[str]]:
    ran = subprocess.run([sys.executable, "-c", PROBE % statement], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    result: dict[str, list[str]] = json.loads(ran.stdout.splitlines()[-1])
    return result


def test_importing_the_package_loads_no_library() -> None:
    assert not HEAVY & set(probe("import remediation")["loaded"])


def test_importing_the_package_does_nothing() -> None:
    assert probe("import remediation")["did"] == []


def test_importing_any_module_does_nothing() -> None:
    assert probe(EVERY_MODULE)["did"] == []


def test_the_proof_can_be_used_alone() -> None:
    unneeded = HEAVY - {"cryptography"}
    assert not unneeded & set(probe("import remediation.proof")["loaded"])


def test_the_probe_sees_what_an_import_does(tmp_path: object) -> None:
    did = probe(f"open({str(tmp_path)!r} + '/x', 'w'); import socket; socket.socket()")["did"]
    assert [line.split()[0] for line in did] == ["open", "socket.__new__"]
