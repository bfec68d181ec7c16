"""
The built-in anchors: a file on another path, a command, a git ref.

They keep signed heads outside the home and read them back. This package must not judge a head against the journal, and must not know
what an incident is.
"""
