"""
The borders of the core: what it asks of time, storage, the world and people, as small abstract types.

Each port states what an implementation guarantees and what it does not. This package must not contain an implementation that does I/O.
"""
