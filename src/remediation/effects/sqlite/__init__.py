"""
SQLite databases as files of others: looking at one, telling who has it open, replacing it as a whole.

A process that closes any descriptor of a database drops the locks that its own connections hold on it (POSIX advisory locks,
https://sqlite.org/howtocorrupt.html, section 2.2), and the embedding host may well have the database open itself. So nothing in
this package opens a database in this process while somebody has it open: the programs here run as children.

This package must not decide whether a database should be replaced, nor by what.
"""
