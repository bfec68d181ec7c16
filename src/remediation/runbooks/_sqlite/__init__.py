"""
What the runbook for corrupt SQLite databases is made of: programs that salvage into scratch, the choice of what is taken, the words
for what is lost.

This package must not change anything outside of the attempt's scratch folder; the programs run as children, and open copies only.
"""
