"""Hooks: how plugins register kinds. A plugin is a module with `@hookimpl` functions; hooks must not do work or I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pluggy

from remediation.ports.anchor import Anchor
from remediation.ports.channel import Channel
from remediation.ports.effect import Effect
from remediation.ports.keys import KeyProvider
from remediation.ports.sentinel import Sentinel
from remediation.runbook import Runbook

PROJECT = "remediation"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Specification:
    """The hooks that exist."""

    @hookspec
    def remediation_runbooks(self) -> Iterable[type[Runbook[Any]]]:
        """Runbook classes."""
        return ()

    @hookspec
    def remediation_sentinels(self) -> Iterable[type[Sentinel[Any]]]:
        """Sentinel classes, by their `kind`."""
        return ()

    @hookspec
    def remediation_effects(self) -> Iterable[type[Effect[Any, Any]]]:
        """Effect classes, by their `kind`."""
        return ()

    @hookspec
    def remediation_channels(self) -> Iterable[Channel]:
        """Channels (objects) that escalations are sent to."""
        return ()

    @hookspec
    def remediation_key_providers(self) -> Iterable[KeyProvider]:
        """Kinds of places for the signing key, by their `name`."""
        return ()

    @hookspec
    def remediation_anchors(self) -> Iterable[Anchor]:
        """Anchors (objects) that keep the journal's signed heads outside the home."""
        return ()

    @hookspec
    def remediation_secret_patterns(self) -> Iterable[str]:
        """Regular expressions of secrets to be masked, besides the built-in ones."""
        return ()
