"""
The command line: parses what people type, asks the packages below, and shows the answer.

It must not decide anything about incidents, and nothing but `remediation.__main__` imports it. Commands import what they need when
they run, so that `remediation report` starts fast.
"""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """The command ``remediation``: runs `sys.argv` and exits."""
    from remediation.cli import app

    app.main()
