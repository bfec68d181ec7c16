"""
The functional core: `evolve` folds entries into state, `next_step`, `decide_report`, `admit` and `gate` decide. All pure.

State is frozen values; decisions return values with their reasons. This package must not do I/O, read a clock, draw random numbers, or
import anything that does.
"""
