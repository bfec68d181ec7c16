"""How a script can say `pathlib.Path` everywhere: by a name that it has, or by an import that is added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import libcst as cst

from remediation.runbooks._volatile_path.values import Reading

_NEW_NAMES = ("Path", "_Path", "_PathlibPath", "_RemediationPath")


class PathName:
    """
    The name of `pathlib.Path` in a script.

    An import of the script is used if it stands at the top level before all `places`, binds a name that nothing else binds, and no
    star import could bind it anew. Otherwise one is added, under a name that the script does not use.
    """

    def __init__(self, reading: Reading, places: Sequence[cst.CSTNode]) -> None:
        self._reading = reading
        bound = reading.bound_names()
        stars = any(isinstance(node, cst.ImportStar) for node in _imports(reading.module))
        first = min(reading.line(place) for place in places)
        existing = "" if stars else self._existing(bound, first)
        self.new = "" if existing else _unused(reading.module, stars=stars)
        """The name that an import must be added for; empty if there is one."""
        self.expression = existing or self.new
        """The source of an expression for the class."""

    def _existing(self, bound: Mapping[str, int], before: int) -> str:
        for statement in self._reading.module.body:
            if self._reading.line(statement) >= before:
                break
            if not isinstance(statement, cst.SimpleStatementLine):
                continue
            for small in statement.body:
                for name, expression in _offered(small):
                    if bound.get(name) == 1:
                        return expression
        return ""

    def add_import(self, module: cst.Module) -> cst.Module:
        """`module` with the import, if one must be added: among its first imports, else after docstring and future imports."""
        if not self.new:
            return module
        renamed = f" as {self.new}" if self.new != "Path" else ""
        added = cst.ensure_type(
            cst.parse_statement(f"from pathlib import Path{renamed}\n", config=module.config_for_parsing), cst.SimpleStatementLine
        )
        body = list(module.body)
        index = _start(body)
        if index < len(body) and _sorts_before(body[index]):
            index += 1
            while index < len(body) and _sorts_before(body[index]) and not _spaced(body[index]):
                index += 1
        elif index < len(body) and _is_import(body[index]):
            added = added.with_changes(leading_lines=body[index].leading_lines)
            body[index] = body[index].with_changes(leading_lines=())
        elif index:
            added = added.with_changes(leading_lines=(cst.EmptyLine(indent=False),))
        if index < len(body) and not _is_import(body[index]) and not _spaced(body[index]):
            body[index] = body[index].with_changes(leading_lines=(cst.EmptyLine(indent=False), *body[index].leading_lines))
        body.insert(index, added)
        return module.with_changes(body=body)


def _imports(node: cst.CSTNode) -> Sequence[cst.CSTNode]:
    """The names of all from-imports, wherever they stand."""
    found: list[cst.CSTNode] = []
    pending = [node]
    while pending:
        current = pending.pop()
        if isinstance(current, cst.ImportFrom):
            found.append(current.names) if isinstance(current.names, cst.ImportStar) else found.extend(current.names)
        elif not isinstance(current, cst.BaseExpression):
            pending.extend(current.children)
    return found


def _offered(small: cst.BaseSmallStatement) -> list[tuple[str, str]]:
    """The names that an import statement binds, with the expression for `pathlib.Path` that each makes possible."""
    match small:
        case cst.ImportFrom(module=cst.Name("pathlib"), names=[*aliases]):
            names = [(alias.evaluated_alias or alias.evaluated_name) for alias in aliases if alias.evaluated_name == "Path"]
            return [(name, name) for name in names]
        case cst.Import():
            names = [(alias.evaluated_alias or alias.evaluated_name) for alias in small.names if alias.evaluated_name == "pathlib"]
            return [(name, f"{name}.Path") for name in names]
    return []


def _unused(module: cst.Module, *, stars: bool) -> str:
    used: set[str] = set()
    pending: list[cst.CSTNode] = [module]
    while pending:
        current = pending.pop()
        if isinstance(current, cst.Name):
            used.add(current.value)
        pending.extend(current.children)
    # A star import leaves out names that begin with an underscore, so they are safe from it.
    names = [name for name in _NEW_NAMES if name not in used and (name[0] == "_" or not stars)]
    return names[0] if names else ""


def _start(body: Sequence[cst.BaseStatement]) -> int:
    """The first place where an import may stand."""
    index = 0
    for position, statement in enumerate(body):
        if not isinstance(statement, cst.SimpleStatementLine):
            continue
        if position == 0 and isinstance(statement.body[0], cst.Expr) and isinstance(statement.body[0].value, cst.BaseString):
            index = 1
        if any(isinstance(small, cst.ImportFrom) and _module_name(small) == "__future__" for small in statement.body):
            index = position + 1
    return index


def _is_import(statement: cst.BaseStatement) -> bool:
    return isinstance(statement, cst.SimpleStatementLine) and all(
        isinstance(small, cst.Import | cst.ImportFrom) for small in statement.body
    )


def _sorts_before(statement: cst.BaseStatement) -> bool:
    """Whether it is an import that stands before ``from pathlib import`` where imports are sorted."""
    if not isinstance(statement, cst.SimpleStatementLine) or not _is_import(statement):
        return False
    last = statement.body[-1]
    return isinstance(last, cst.Import) or (
        isinstance(last, cst.ImportFrom) and not last.relative and _module_name(last) < "pathlib"
    )


def _module_name(statement: cst.ImportFrom) -> str:
    return cst.Module([]).code_for_node(statement.module) if statement.module is not None else ""


def _spaced(statement: cst.BaseStatement) -> bool:
    lines = statement.leading_lines if isinstance(statement, cst.SimpleStatementLine | cst.BaseCompoundStatement) else ()
    return any(line.comment is None for line in lines)
