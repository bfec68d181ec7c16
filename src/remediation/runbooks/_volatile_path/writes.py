"""
Whether a script changes a file that it reads: such a file is the script's own product, and no content to keep in a repository.

Names are followed through assignments, defaults and calls of the script's own functions, in doubt too far rather than not far
enough. What is changed through another module is not seen here; the trial of the change sees it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import libcst as cst
from libcst.metadata import Assignment

from remediation.runbooks._volatile_path.values import Reading

_CHANGES_ANY = frozenset(
    f"{module}.{name}"
    for module, names in {
        "os": "remove unlink rename renames replace truncate rmdir removedirs mkdir makedirs link symlink open mkfifo",
        "shutil": "move rmtree",
    }.items()
    for name in names.split()
)
_CHANGES_SECOND = frozenset(f"shutil.{name}" for name in ("copy", "copy2", "copyfile", "copytree"))
_PATH_METHODS = frozenset(
    ("write_text", "write_bytes", "touch", "unlink", "rename", "replace", "symlink_to", "hardlink_to", "link_to", "mkdir", "rmdir")
)
_SPEAKING = re.compile(r"(?:save|write|dump|export|to)(?:_\w+)?|savefig|savetxt|savez")


def changed_at(reading: Reading, files: Collection[str]) -> tuple[int, str] | None:
    """The line at which the script may change one of `files` (normal paths), and how; `None` if it doesn't."""
    flow = _Flow(reading, files)
    for call in flow.calls:
        how = _how(call, flow)
        if how:
            return reading.line(call), how
    return None


class _Flow:
    """Where the path of a file may come to."""

    def __init__(self, reading: Reading, files: Collection[str]) -> None:
        self.reading = reading
        self._files = frozenset(files)
        self._bindings: set[cst.CSTNode] = set()
        self._attributes: set[str] = set()
        self.calls: list[cst.Call] = []
        self._functions: dict[str, list[cst.Param]] = {}
        nodes = list(_walk(reading.module))
        for node in nodes:
            if isinstance(node, cst.Call):
                self.calls.append(node)
            elif isinstance(node, cst.FunctionDef):
                self._functions.setdefault(node.name.value, []).extend([*node.params.posonly_params, *node.params.params])
        size = -1
        while size != (size := len(self._bindings) + len(self._attributes)):
            for node in nodes:
                self._follow(node)

    def may_be(self, node: cst.CSTNode) -> bool:
        """Whether `node` may stand for one of the files."""
        value = self.reading.value(node)
        if value is not None:
            return value.file in self._files
        match node:
            case cst.Name():
                found = self.reading.assignments(node.value, node)
                return any(isinstance(item, Assignment) and item.node in self._bindings for item in found)
            case cst.Attribute():
                return node.attr.value in self._attributes
            case cst.Call(func=cst.Attribute() as function, args=()):
                return self.may_be(function.value)
            case cst.Call(args=[argument]) if self.reading.called(node).startswith(("pathlib.", "builtins.str", "os.fspath")):
                return self.may_be(argument.value)
            case cst.BooleanOperation():
                return self.may_be(node.left) or self.may_be(node.right)
            case cst.IfExp():
                return self.may_be(node.body) or self.may_be(node.orelse)
            case cst.NamedExpr():
                return self.may_be(node.value)
        return False

    def _follow(self, node: cst.CSTNode) -> None:
        match node:
            case cst.Assign() if self.may_be(node.value):
                for target in node.targets:
                    self._bind(target.target)
            case cst.AnnAssign(value=cst.BaseExpression() as value) if self.may_be(value):
                self._bind(node.target)
            case cst.NamedExpr() if self.may_be(node.value):
                self._bind(node.target)
            case cst.Param(default=cst.BaseExpression() as default) if self.may_be(default):
                self._bindings.add(node)
            case cst.Call():
                self._pass(node)

    def _bind(self, target: cst.BaseExpression) -> None:
        if isinstance(target, cst.Name):
            self._bindings.add(target)
        if isinstance(target, cst.Name | cst.Attribute):
            self._attributes.add(target.value if isinstance(target, cst.Name) else target.attr.value)

    def _pass(self, call: cst.Call) -> None:
        name = (
            call.func.value
            if isinstance(call.func, cst.Name)
            else call.func.attr.value
            if isinstance(call.func, cst.Attribute)
            else ""
        )
        params = self._functions.get(name, [])
        for index, argument in enumerate(call.args):
            if not params or not self.may_be(argument.value):
                continue
            if argument.keyword is not None:
                self._bindings.update(param for param in params if param.name.value == argument.keyword.value)
            else:
                # A method's first parameter is the object: both places are taken.
                self._bindings.update(params[index : index + 2])


def _walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from _walk(child)


def _how(call: cst.Call, flow: _Flow) -> str:
    function = flow.reading.called(call)
    hit = [index for index, argument in enumerate(call.args) if flow.may_be(argument.value)]
    if function in _CHANGES_ANY and hit:
        return f"{function}()"
    if function in _CHANGES_SECOND and any(index == 1 or _keyword(call, index) == "dst" for index in hit):
        return f"{function}()"
    last = (
        call.func.attr.value if isinstance(call.func, cst.Attribute) else call.func.value if isinstance(call.func, cst.Name) else ""
    )
    if last == "open" and hit:
        return _mode(call, 1, flow)
    if isinstance(call.func, cst.Attribute) and flow.may_be(call.func.value):
        value = flow.reading.value(call.func.value)
        if last == "open":
            return _mode(call, 0, flow)
        if last in _PATH_METHODS and (value is None or value.is_path):
            return f"{last}()"
    if hit and _SPEAKING.fullmatch(last):
        return f"{last}()"
    return ""


def _mode(call: cst.Call, place: int, flow: _Flow) -> str:
    for index, argument in enumerate(call.args):
        if argument.star:
            return "open() in a mode that its text does not tell"
        if _keyword(call, index) == "mode" or (argument.keyword is None and index == place):
            value = flow.reading.value(argument.value)
            if value is None:
                return "open() in a mode that its text does not tell"
            return f"open() in mode {value.text!r}" if set(value.text) & set("wax+") else ""
    return ""


def _keyword(call: cst.Call, index: int) -> str:
    keyword = call.args[index].keyword
    return keyword.value if keyword is not None else ""
