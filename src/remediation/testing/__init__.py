"""
The kit for authors of plugins: a real host in a temporary folder, and a clock that only moves when a test moves it.

It needs no test framework. What a test runs with it is the engine as it is: a signed journal, files, processes, locks. This package must
not be imported by the rest of the package, and must not replace any part of the engine by something else.
"""

from remediation.testing.clock import FakeClock
from remediation.testing.hosts import WORLD, eventually, plugin, running_host, settings_in

__all__ = ["WORLD", "FakeClock", "eventually", "plugin", "running_host", "settings_in"]
