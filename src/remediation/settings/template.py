"""The ``remediation.toml`` that `init` writes: every key with its default, commented out, and what it means."""

from __future__ import annotations

import secrets

from remediation.settings.document import machine_name

_TEMPLATE = """\
# Settings of this host. Each key is shown with its default; take the '#' away to set it. Unknown keys are errors.
# Relative paths are relative to this file. Durations: "250ms", "30s", "10m", "2h", "7d", or a number of seconds.
# `remediation doctor` checks this file.

[host]
id = "{id}"          # names this host in its journal and keys; don't change it once the journal exists
#home = "."                      # the folder of journal and inbox: this one
#plugins = []                    # modules with hooks, e.g. ["my_package.runbooks"]
#autoload = true                 # what installed packages may bring by entry points: true, false, or a list of names
#ready_file = "/run/app/ready"   # there while the host is ready; default: none
#strict_steps = true             # a runbook's step that changes files or starts processes by itself is a fault

[gate]
# What the host may do alone:
#   observe        nothing; plans are recorded
#   supervised     nothing; every plan asks a person
#   collaborative  reversible and disposable plans that reach one process, at or above the confidence threshold
#   autonomous     reversible and disposable plans that reach this machine, at or above it; the rest asks
#profile = "supervised"
#confidence_threshold = 70       # 0-100

[limits]
#attempts_per_incident = 3       # then people are told
#cooldown = "5m"                 # per subject, after an incident has settled
#changes_per_hour = 20           # more are refused, and people are told
#runbook_changes = 10            # of one runbook, in any runbook_window; more wait
#runbook_window = "1h"
#concurrency = 16                # subjects healed at a time
#concurrency_per_runbook = 16    # attempts of one runbook at a time; more wait
#concurrency_machine = 4         # attempts at a time that may reach the machine
#concurrency_fleet = 1           # attempts at a time that may reach the fleet
#storm_subjects = 100            # open incidents of one code; further subjects fold into one storm incident
#storm_exit = "10m"              # how long a storm must have been over

# Subjects of which some must stay healthy, whatever is done to the others:
#[[limits.groups]]
#name = "databases"
#subjects = ["/srv/a.db", "/srv/b.db", "/srv/c.db"]
#min_healthy = 2

[trust]
#earn_after = 0                  # collaborative: heals without a failure after which a runbook may reach the machine; 0 is never

[approvals]
# Who may consent to a plan that asks: people's SSH keys, see ssh-keygen(1), ALLOWED SIGNERS. Without it nobody may.
#allowed_signers = "allowed_signers"
#expires = "24h"                 # how long a request stands
#recheck = "5m"                  # how often it is looked at whether it is still needed
#allow_local = false             # whether a key counts that the host's own user can read

[effects]
# Folders and files that runbooks may change. Without it: what the sentinels below watch. [] is nothing.
#roots = ["/srv/app"]

[effects.disposable]
# What can be made again, so that destroying or restarting it loses nothing.
#globs = []                      # paths, e.g. ["/srv/app/cache/**"]
#units = []                      # units of the service manager, e.g. ["app.service"]
#argv_prefixes = []              # beginnings of command lines, e.g. [["npm", "rebuild"]]
#controls = []                   # functions of the embedding host

[ladder]
#order = []                      # ids of runbooks, first to be tried first

[channels]
#command = []                    # run for each notice to people, with the notice as JSON on its standard input
#log = true                      # write notices to the host's log, too

[anchors]
# Where the journal's signed heads are kept outside this machine's reach; nobody can rewrite unnoticed what is before one.
# One table for each; all take every = "1m" (the pace), timeout = "30s" and a name.
#[[anchors.file]]
#path = "/mnt/audit/head.note"   # on another disk or machine; its folder must exist
#history = false                 # true: a line for each head, instead of the newest one only
#[[anchors.command]]
#command = ["/usr/local/bin/keep-head"]     # gets the head on its standard input
#[[anchors.git]]
#repository = "/srv/heads.git"
#ref = "refs/remediation/heads"  # one for each host
#remote = ""                     # pushed to, and read back from

[keys]
# The signing key and head.note (the newest signed head that left the process): outside the home, backed up apart from it.
#dir = "~/.local/state/remediation/{id}"    # by default under $XDG_STATE_HOME, if set
#provider = "file"               # what keeps the private key: file, keyring (the operating system's), or a plugin's
# Where the passphrase of an encrypted key file comes from, first come first served: env:NAME, fd:NUMBER, credential:NAME (systemd).
#passphrase = ["env:REMEDIATION_KEY_PASSPHRASE", "credential:remediation-key-passphrase"]

# One table for each runbook that is not to stay as it is; `remediation runbooks` lists their ids.
#[runbooks."stale-lock-file"]
#state = "registered"            # registered (observes only) | live (may act) | quarantined
#order = 1                       # place among the runbooks that match, smaller first
#options = {{}}

# What is watched: one [[sentinels.<kind>]] for each thing.
#[[sentinels.sqlite]]
#path = "app.db"
#every = "30s"
#backups = ["backups/app-*.db"]

# Jobs that are run, and whose failures are degradations: one [[jobs]] each.
#[[jobs]]
#name = "build-pages"
#command = ["python", "scripts/build.py"]
#cwd = "site"
#every = "10m"                   # or cron = "*/10 * * * *"
"""


def new_host_id() -> str:
    """An id for a new host: this machine's name and a random part, so that two hosts of one machine don't share keys."""
    return f"{machine_name()}-{secrets.token_hex(3)}"


def template(host_id: str) -> str:
    """The text of a first ``remediation.toml`` for the host `host_id`."""
    return _TEMPLATE.format(id=host_id)
