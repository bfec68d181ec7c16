"""
``remediation demo``: breaks real things in a scratch folder and has them healed before your eyes.

Everything in it is real: a git repository, a job, a SQLite database, a host process that is killed, the journal. This package must not
do by itself what the host should do; it only breaks things and watches.
"""

from remediation.cli.demo.command import register

__all__ = ["register"]
