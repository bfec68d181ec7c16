"""
Measurements against raw floors of the same run: ``python -m benchmarks [name …]``.

Nothing here is asserted. Each figure stands beside the cost of what can't be avoided (an fdatasync, a one-row SQLite commit with WAL and
FULL), measured just before it on the same disk, because absolute times of a shared machine say little.
"""
