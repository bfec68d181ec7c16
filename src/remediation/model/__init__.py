"""
Frozen values: events, runbook declarations, plans, journal entries, and the rules of text that they share.

This package must not do I/O, read a clock, or decide anything.
"""
