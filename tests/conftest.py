"""Property tests try the same cases in every run, so that a red run is about the change; ``REMEDIATION_HYPOTHESIS=explore`` looks for new ones."""

import os

from hypothesis import HealthCheck, settings

# How long a case takes says nothing on a machine that is busy with others.
patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeat", derandomize=True, **patient)
settings.register_profile("explore", print_blob=True, **patient)
settings.load_profile(os.environ.get("REMEDIATION_HYPOTHESIS", "repeat"))
