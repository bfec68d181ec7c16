"""Property tests try the same cases in every run, so that a red run is about the change; ``REMEDIATION_HYPOTHESIS=explore`` looks for new ones."""

import contextlib
import os
import signal

from hypothesis import HealthCheck, settings

# How long a case takes says nothing on a machine that is busy with others.
patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeat", derandomize=True, **patient)
settings.register_profile("explore", print_blob=True, **patient)
# Whoever started this in the background may have had these ignored, and processes inherit that: the ones that tests end by them would not.
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        with contextlib.suppress(ValueError):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
settings.load_profile(os.environ.get("REMEDIATION_HYPOTHESIS", "repeat"))
