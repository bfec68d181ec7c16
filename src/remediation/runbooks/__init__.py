"""
Built-in runbooks: each handles one class of degradations, and is a plugin like any other.

This package must not import the engine or a sentinel, and a runbook here must not change the world by itself: its plan's effects do.
"""
