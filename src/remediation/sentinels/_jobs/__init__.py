"""
What the job sentinel is made of: its options, the records of its runs, the reading of tracebacks, and the evidence made of them.

This package must not decide what is to be done about a failed job.
"""
