"""Property tests try the same cases in every run, so that a red run is about the change; ``REMEDIATION_HYPOTHESIS=explore`` looks for new ones."""

import os

from hypothesis import settings

settings.register_profile("repeat", derandomize=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("REMEDIATION_HYPOTHESIS", "repeat"))
