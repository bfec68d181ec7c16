"""
Owning what runs: kernel locks that outlive a killed host until its children are gone, and bounded child processes.

This package must not know what an incident is.
"""
