"""
Built-in sentinels: each watches one kind of thing, and publishes that it got worse, or well again.

This package must not mend anything, and must not know which runbooks there are.
"""
