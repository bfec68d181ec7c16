"""Which systemd units a command acts on, and how far commands reach, as far as their words tell it for certain."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from remediation.model.runbook import Radius

_SYSTEMCTL = frozenset({"systemctl", "/bin/systemctl", "/usr/bin/systemctl"})
_VERBS = frozenset(
    {
        "kill",
        "reload",
        "reload-or-restart",
        "reset-failed",
        "restart",
        "start",
        "stop",
        "try-reload-or-restart",
        "try-restart",
    }
)
_OPTIONS = re.compile(r"--(?:user|system|quiet|wait|no-block|no-ask-password|no-pager|signal=[A-Z0-9]+)|-q|-s[A-Z0-9]+")
# No globs and no options: systemctl would expand or obey them. See systemd.unit(5), "Description", for the characters.
_UNIT = re.compile(r"[A-Za-z0-9_:.\\@][A-Za-z0-9_:.\\@-]*")
_SUFFIX = re.compile(r"\.(?:service|socket|device|mount|automount|swap|target|path|timer|slice|scope)$")
_MACHINE = frozenset(
    [
        "apk",
        "apt",
        "apt-get",
        "dnf",
        "docker",
        "doas",
        "halt",
        "ip",
        "ipset",
        "iptables",
        "kill",
        "killall",
        "mkfs",
        "modprobe",
        "mount",
        "nft",
        "pkill",
        "podman",
        "poweroff",
        "reboot",
        "rc-service",
        "service",
        "shutdown",
        "snap",
        "su",
        "sudo",
        "swapoff",
        "swapon",
        "sysctl",
        "systemctl",
        "tc",
        "umount",
        "yum",
    ]
)
_FLEET = frozenset(
    ["ansible", "ansible-playbook", "aws", "az", "gcloud", "helm", "kubectl", "nomad", "pulumi", "salt", "terraform", "tofu"]
)


def unit_name(name: str) -> str:
    """The full name of a unit: systemctl takes a name without a suffix for a service."""
    return name if _SUFFIX.search(name) else f"{name}.service"


def units_of(argv: Sequence[str]) -> tuple[str, ...]:
    """
    The units that a ``systemctl start|stop|restart|reload|kill …`` acts on, with full names; empty for every other command.

    A command that is not understood completely (a glob, an unknown option or verb) names none.
    """
    if not argv or argv[0] not in _SYSTEMCTL:
        return ()
    words = [word for word in argv[1:] if not _OPTIONS.fullmatch(word)]
    if len(words) < 2 or words[0] not in _VERBS or not all(_UNIT.fullmatch(word) for word in words[1:]):
        return ()
    return tuple(unit_name(word) for word in words[1:])


def least_radius(argv: Sequence[str]) -> Radius:
    """
    How far a command reaches at least, judged by its program: no more than a floor under what the author declares.

    Acting on named units reaches these; any other use of a tool that administers machines reaches the machine, of one that administers
    many of them the fleet.
    """
    program = os.path.basename(argv[0]) if argv else ""
    if program in _FLEET:
        return Radius.FLEET
    return Radius.MACHINE if program in _MACHINE and not units_of(argv) else Radius.PROCESS
