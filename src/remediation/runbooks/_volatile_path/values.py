"""
Which file an expression of a script stands for, as far as its text alone tells.

Folded are literals, their joins (``+``, ``/``, `os.path.join`, `Path.joinpath`, f-strings), and names that are bound once.
Everything else has no value here: the result is never a guess.
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import libcst as cst
from libcst import matchers
from libcst.metadata import Assignment, MetadataWrapper, ParentNodeProvider, PositionProvider, ScopeProvider

from remediation.runbooks._volatile_path import normal

_PATH_TYPES = frozenset(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePath", "PurePosixPath"))
_JOINS = frozenset({"os.path.join", "posixpath.join"})
_TEXT = frozenset({"builtins.str", "os.fspath"})
_SAME_FILE = frozenset({"absolute", "resolve", "expanduser", "as_posix", "__fspath__", "__str__"})
_DEPTH = 40
_LONGEST = 8192


@dataclass(frozen=True, slots=True)
class Value:
    """A text or path that an expression is known to have."""

    text: str
    is_path: bool
    """A `pathlib` object rather than a string."""
    rests_on: frozenset[str] = frozenset()
    """The normal paths of the names and wrapped expressions that it is made of."""

    @property
    def file(self) -> str:
        """The file that it names, normal as far as that is safe without looking at links."""
        return normal(self.text)

    @property
    def whole(self) -> bool:
        """Whether it is built here, and doesn't just pass on what another expression already stands for."""
        return self.file not in self.rests_on


class Reading:
    """A parsed script, and what its expressions stand for."""

    def __init__(self, module: cst.Module) -> None:
        wrapper = MetadataWrapper(module)
        self.module = wrapper.module
        self._scopes = wrapper.resolve(ScopeProvider)
        self._parents = wrapper.resolve(ParentNodeProvider)
        self._positions = wrapper.resolve(PositionProvider)
        self._values: dict[cst.CSTNode, Value | None] = {}

    def line(self, node: cst.CSTNode) -> int:
        """The line that `node` begins on."""
        return int(self._positions[node].start.line)

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """What holds `node`."""
        return self._parents.get(node)

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """What holds `node`, from the inside out."""
        current = self.parent(node)
        while current is not None:
            yield current
            current = self.parent(current)

    def assignments(self, name: str, at: cst.CSTNode) -> Sequence[object]:
        """Everything that may bind `name` as seen from `at`, built-in names included."""
        scope = self._scopes.get(at)
        return tuple(scope[name]) if scope is not None else ()

    def bound_names(self) -> Mapping[str, int]:
        """Every name that some scope binds, and how often."""
        counts: dict[str, int] = {}
        for scope in {id(scope): scope for scope in self._scopes.values() if scope is not None}.values():
            for assignment in scope.assignments:
                counts[assignment.name] = counts.get(assignment.name, 0) + 1
        return counts

    def called(self, call: cst.Call) -> str:
        """The full name of what is called, if exactly one is possible: ``pathlib.Path``, ``builtins.open``; else empty."""
        scope = self._scopes.get(call)
        names = scope.get_qualified_names_for(call.func) if scope is not None else ()
        return next(iter(names)).name if len(names) == 1 else ""

    def value(self, node: cst.CSTNode, depth: int = 0) -> Value | None:
        """What `node` stands for, or `None` if that is not known for sure."""
        if node not in self._values:
            value = self._fold(node, depth) if depth <= _DEPTH else None
            self._values[node] = value if value is None or len(value.text) <= _LONGEST else None
        return self._values[node]

    def operands(self, node: cst.CSTNode) -> Sequence[cst.CSTNode]:
        """What a text or path is put together from; empty for everything that is not put together in a way that is known here."""
        match node:
            case cst.FormattedString():
                return [part.expression for part in node.parts if isinstance(part, cst.FormattedStringExpression)]
            case cst.ConcatenatedString() | cst.BinaryOperation(operator=cst.Add() | cst.Divide()):
                return [node.left, node.right]
            case cst.Call():
                plain = [argument.value for argument in node.args]
                if isinstance(node.func, cst.Attribute) and node.func.attr.value == "joinpath":
                    return [node.func.value, *plain]
                return plain if self.called(node) in _PATH_TYPES | _JOINS | _TEXT else []
        return []

    def only_used_in(self, nodes: Sequence[cst.CSTNode], *, but: str) -> list[tuple[str, int]]:
        """Names of the module, except `but`, that nothing refers to outside of `nodes`, and not even a text mentions; with their lines."""
        scope = self._scopes.get(self.module)
        inside = {id(node) for node in nodes}
        found: dict[str, int] = {}
        texts = {
            node.raw_value for node in matchers.findall(self.module, matchers.SimpleString()) if isinstance(node, cst.SimpleString)
        }
        before = -1
        while scope is not None and before < len(found):  # a constant may have been used by another one only
            before = len(found)
            for assignment in scope.assignments:
                name = assignment.name
                if name in found or name in texts or name == but or len(scope[name]) != 1 or not isinstance(assignment, Assignment):
                    continue
                uses = [access.node for access in assignment.references]
                if uses and all(any(id(part) in inside for part in (use, *self.ancestors(use))) for use in uses):
                    found[name] = self.line(assignment.node)
                    inside.add(id(bound_value(assignment.node, self)))
        return sorted(found.items(), key=lambda item: item[1])

    def _fold(self, node: cst.CSTNode, depth: int) -> Value | None:
        match node:
            case cst.SimpleString():
                return _literal(node)
            case cst.ConcatenatedString():
                return self._joined_text(node.left, node.right, depth)
            case cst.FormattedString():
                return self._formatted(node, depth)
            case cst.Name():
                return self._named(node, depth)
            case cst.BinaryOperation(operator=cst.Add()):
                return self._joined_text(node.left, node.right, depth)
            case cst.BinaryOperation(operator=cst.Divide()):
                return self._joined_path([node.left, node.right], depth, like=None)
            case cst.Call():
                return self._call(node, depth)
        return None

    def _joined_text(self, left: cst.CSTNode, right: cst.CSTNode, depth: int) -> Value | None:
        first, second = self.value(left, depth + 1), self.value(right, depth + 1)
        if first is None or second is None or first.is_path or second.is_path:
            return None
        return Value(first.text + second.text, False, first.rests_on | second.rests_on)

    def _joined_path(self, nodes: Sequence[cst.CSTNode], depth: int, like: bool | None) -> Value | None:
        """A join; its type is a path for `like` true, text for false, and for `None` a path if one of the parts is."""
        values = [self.value(node, depth + 1) for node in nodes]
        known = [value for value in values if value is not None]
        if not known or len(known) != len(values):
            return None
        is_path = any(value.is_path for value in known) if like is None else like
        if like is None and not is_path:
            return None
        text = posixpath.join(*(value.text for value in known))
        return Value(text, is_path, frozenset().union(*(value.rests_on for value in known)))

    def _formatted(self, node: cst.FormattedString, depth: int) -> Value | None:
        text, rests_on = "", frozenset[str]()
        for part in node.parts:
            if isinstance(part, cst.FormattedStringText):
                prefix = node.prefix.lower().replace("f", "")
                try:
                    literal = ast.literal_eval(
                        f"{prefix}{node.quote}{part.value.replace('{{', '{').replace('}}', '}')}{node.quote}"
                    )
                except (ValueError, SyntaxError):
                    return None
                text += str(literal)
            elif isinstance(part, cst.FormattedStringExpression):
                if part.format_spec is not None or part.equal is not None or part.conversion not in (None, "s"):
                    return None
                value = self.value(part.expression, depth + 1)
                if value is None:
                    return None
                text, rests_on = text + value.text, rests_on | value.rests_on
        return Value(text, False, rests_on)

    def _named(self, node: cst.Name, depth: int) -> Value | None:
        found = self.assignments(node.value, node)
        if len(found) != 1 or not isinstance(found[0], Assignment):
            return None
        bound = bound_value(found[0].node, self)
        value = self.value(bound, depth + 1) if bound is not None else None
        return Value(value.text, value.is_path, value.rests_on | {value.file}) if value is not None else None

    def _call(self, node: cst.Call, depth: int) -> Value | None:
        plain = [argument.value for argument in node.args if argument.keyword is None and not argument.star]
        if len(plain) != len(node.args):
            return None
        function = self.called(node)
        if function in _PATH_TYPES and plain:
            return self._joined_path(plain, depth, like=True)
        if function in _JOINS and plain:
            return self._joined_path(plain, depth, like=False)
        if function in _TEXT and len(plain) == 1:
            return _passed_on(self.value(plain[0], depth + 1), is_path=False)
        if isinstance(node.func, cst.Attribute):
            method = node.func.attr.value
            inner = self.value(node.func.value, depth + 1)
            if inner is None or not inner.is_path:
                return None
            if method == "joinpath" and plain:
                return self._joined_path([node.func.value, *plain], depth, like=True)
            if method in _SAME_FILE and not plain:
                return _passed_on(inner, is_path=method in ("absolute", "resolve", "expanduser"))
        return None


def _literal(node: cst.SimpleString) -> Value | None:
    try:
        text = node.evaluated_value
    except (SyntaxError, ValueError):  # an escape that Python does not know: the parser lets it pass
        return None
    return Value(text, is_path=False) if isinstance(text, str) else None


def _passed_on(value: Value | None, *, is_path: bool) -> Value | None:
    return Value(value.text, is_path, value.rests_on | {value.file}) if value is not None else None


def bound_value(target: cst.CSTNode, reading: Reading) -> cst.BaseExpression | None:
    """The expression that a plain assignment binds to the name `target`; `None` for every other way to bind a name."""
    parent = reading.parent(target)
    if isinstance(parent, cst.AnnAssign) and parent.target is target:
        return parent.value
    if isinstance(parent, cst.AssignTarget):
        assign = reading.parent(parent)
        return assign.value if isinstance(assign, cst.Assign) else None
    return None
