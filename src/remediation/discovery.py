"""Discovery: which plugins there are, and what they register. The plugin manager is built here, never at import."""

from __future__ import annotations

import importlib
import importlib.metadata
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pluggy

from remediation import effects
from remediation.errors import RegistrationError
from remediation.hooks import PROJECT, Specification
from remediation.keys import BUILTIN_PROVIDERS
from remediation.model.redaction import Rule
from remediation.model.redaction.foreign import rule_of
from remediation.model.text import printable
from remediation.ports.anchor import Anchor
from remediation.ports.channel import Channel
from remediation.ports.effect import EffectKinds
from remediation.ports.keys import KeyProvider
from remediation.ports.sentinel import Sentinel
from remediation.runbook import Runbook
from remediation.settings import Settings, faults, plugged

BUILTIN: tuple[str, ...] = (
    "remediation.sentinels.jobs",
    "remediation.sentinels.sqlite",
    "remediation.runbooks.sqlite_corruption",
    "remediation.runbooks.volatile_path",
)


class Plugins:
    """The plugins of one host."""

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._manager = manager
        self.kinds = EffectKinds()
        for _, kinds in self._results("remediation_effects"):
            for kind in kinds:
                self.kinds.add(kind)

    def runbooks(self) -> list[tuple[type[Runbook[Any]], str]]:
        """Runbook classes, each with the name of its plugin."""
        return [(kind, plugin) for plugin, kinds in self._results("remediation_runbooks") for kind in kinds]

    def channels(self) -> list[Channel]:
        """Channels that plugins bring."""
        return [channel for _, channels in self._results("remediation_channels") for channel in channels]

    def key_providers(self) -> dict[str, KeyProvider]:
        """
        Kinds of places for keys that plugins bring, by name.

        Raises:
            RegistrationError: one has no name, or one that is taken.

        """
        found: dict[str, KeyProvider] = {}
        for plugin, providers in self._results("remediation_key_providers"):
            for provider in providers:
                name = getattr(provider, "name", "")
                if not name or name in BUILTIN_PROVIDERS or found.setdefault(name, provider) is not provider:
                    raise RegistrationError(
                        f"plugin {plugin}: a key provider needs a name of its own, and {provider!r} has {name!r}"
                    )
        return found

    def anchors(self) -> list[Anchor]:
        """Anchors that plugins bring."""
        return [anchor for _, anchors in self._results("remediation_anchors") for anchor in anchors]

    def secret_rules(self) -> list[Rule]:
        """
        What plugins say of the form of secrets.

        Raises:
            RegistrationError: an expression can't be used; it names the plugin and the reason.

        """
        rules = []
        for plugin, expressions in self._results("remediation_secret_patterns"):
            for expression in expressions:
                try:
                    rules.append(rule_of(expression))
                except ValueError as error:
                    shown = printable(str(expression))[:200]
                    raise RegistrationError(f"plugin {plugin}: remediation_secret_patterns: {shown!r} {error}") from error
        return rules

    def sentinels(self, settings: Settings) -> list[Sentinel[Any]]:
        """
        One sentinel for each configured table.

        Raises:
            RegistrationError: no plugin has that kind, or its options can't be used.

        """
        kinds = self._sentinel_kinds()
        sentinels: dict[str, Sentinel[Any]] = {}
        for name, tables in settings.sentinel_tables().items():
            kind = kinds.get(name)
            if kind is None:
                raise RegistrationError(f"{_table(name)}: no plugin has sentinels of that kind; {_other(name, sorted(kinds))}")
            for number, table in enumerate(tables, 1):
                where = f"{_table(name)} number {number}"
                options = plugged.filled(kind.options_type, table, where)
                try:
                    made = kind(options, settings.base)
                except (ValueError, OSError) as error:
                    raise RegistrationError(f"{where}: {error}") from error
                if made.name in sentinels:
                    raise RegistrationError(f"{where}: there is a sentinel {printable(made.name)!r} already; remove one")
                sentinels[made.name] = made
        return list(sentinels.values())

    def _sentinel_kinds(self) -> dict[str, type[Sentinel[Any]]]:
        kinds: dict[str, type[Sentinel[Any]]] = {}
        for plugin, found in self._results("remediation_sentinels"):
            for kind in found:
                name = getattr(kind, "kind", "")
                if not name:
                    raise RegistrationError(f"plugin {plugin}: a sentinel class needs a kind, and {kind!r} has none")
                if kinds.setdefault(name, kind) is not kind:
                    raise RegistrationError(f"plugin {plugin}: there are sentinels of kind {name!r} already: {kinds[name]!r}")
        return kinds

    def _results(self, hook: str) -> list[tuple[str, Iterable[Any]]]:
        """What each plugin returned, in the order of registration."""
        results: list[tuple[str, Iterable[Any]]] = []
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            try:
                results.append((implementation.plugin_name, tuple(implementation.function())))
            except RegistrationError:
                raise
            except Exception as error:
                raise RegistrationError(
                    f"plugin {implementation.plugin_name}: {hook} raised {type(error).__name__}: {error}"
                ) from error
        return results


def discover(settings: Settings, plugins: Sequence[Any] = ()) -> Plugins:
    """
    All plugins: the built-in ones, what entry points bring (as ``[host] autoload`` allows), ``[host] plugins``, and `plugins`:
    modules, objects, or names of modules.

    Raises:
        RegistrationError: one can't be imported, or implements a hook that does not exist.

    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Specification)
    manager.register(effects, "remediation.effects")
    for name in (*BUILTIN, *settings.host.plugins):
        _register(manager, _imported(name), name)
    _load_entry_points(manager, settings.host.autoload)
    for plugin in plugins:
        if isinstance(plugin, str):
            _register(manager, _imported(plugin), plugin)
            continue
        _register(manager, plugin, _free_name(manager, getattr(plugin, "__name__", type(plugin).__name__)))
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise RegistrationError(f"a plugin implements a hook that does not exist: {error}") from error
    return Plugins(manager)


def _table(kind: str) -> str:
    return "[[jobs]]" if kind == "jobs" else f"[[sentinels.{printable(kind)}]]"


def _other(kind: str, kinds: list[str]) -> str:
    near = faults.nearest(kind, kinds)
    return f"did you mean {_table(near)}?" if near else f"there are {', '.join(kinds) or 'none'}"


def _load_entry_points(manager: pluggy.PluginManager, autoload: bool | Sequence[str]) -> None:
    if autoload is False:
        return
    found = {point.name: point for point in importlib.metadata.entry_points(group=PROJECT)}
    wanted = sorted(found) if autoload is True else list(autoload)
    for name in wanted:
        if name not in found:
            raise RegistrationError(
                f"[host] autoload names {name!r}, but no installed package has that entry point in the group {PROJECT!r}"
            )
        try:
            plugin = found[name].load()
        except Exception as error:
            raise RegistrationError(
                f"the plugin {name!r} ({found[name].value}) can't be loaded: {type(error).__name__}: {error}"
            ) from error
        _register(manager, plugin, name)


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise RegistrationError(f"the plugin {name!r} can't be imported: {type(error).__name__}: {error}") from error


def _free_name(manager: pluggy.PluginManager, wanted: str) -> str:
    """A name for a plugin passed in code: several objects of one class may be."""
    names = itertools.chain([wanted], (f"{wanted}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not manager.has_plugin(name))


def _register(manager: pluggy.PluginManager, plugin: Any, name: str) -> None:
    if manager.is_registered(plugin):
        return
    try:
        manager.register(plugin, name)
    except (ValueError, pluggy.PluginValidationError) as error:
        raise RegistrationError(f"the plugin {name!r} can't be registered: {error}") from error
