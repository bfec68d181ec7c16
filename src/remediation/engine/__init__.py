"""
The engine: takes degradations in, drives incidents through runbooks, and carries plans out.

Decisions are made in `remediation.core`; this package awaits, applies and journals them. It must not mutate the world but through
effects of a committed plan, and must not know the command line, sentinels' kinds or storage.
"""
