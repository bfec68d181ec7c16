"""The table of consent: who may give it, and how."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, StrictBool

from remediation.model.base import Duration, Frozen


class Approvals(Frozen):
    """``[approvals]``: whose consent counts."""

    allowed_signers: Path | None = None
    """People's SSH keys, in the format of ssh-keygen(1), "ALLOWED SIGNERS". Not set: nobody may consent, and what asks goes to people."""
    expires: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(hours=24)
    """How long a request stands."""
    recheck: Annotated[Duration, Field(ge=timedelta(seconds=1))] = timedelta(minutes=5)
    """How often it is looked at whether what waits for consent is still needed."""
    allow_local: StrictBool = False
    """Whether a signature counts whose private key the host's own user can read. `doctor` reports it."""
