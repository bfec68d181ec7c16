"""
Rewrites a script so that it finds files relative to itself. Everything else in it stays as it is, to the byte.

Where an expression is known to stand for a file (see `values`), it is replaced by one of the same type: a path by
``Path(__file__).resolve().parent / "resources" / "page.html"``, a string by ``str(…)`` of that.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

import libcst as cst

from remediation.model.text import capped, printable
from remediation.runbooks._volatile_path import CanNotHeal, Rewritten
from remediation.runbooks._volatile_path.pathlib_name import PathName
from remediation.runbooks._volatile_path.values import Reading, Value
from remediation.runbooks._volatile_path.writes import changed_at

_OPERANDS = (cst.Attribute, cst.Subscript, cst.Await, cst.UnaryOperation, cst.BinaryOperation)
_SHOWN = 160
_STRINGS = (cst.SimpleString, cst.ConcatenatedString, cst.FormattedString)


def rewrite(source: bytes, files: Mapping[str, str]) -> Rewritten:
    """
    `source` with every mention of the keys of `files` replaced.

    Args:
        source: A Python script in the encoding that it declares.
        files: Normal absolute paths, each with the place where the file will be: relative to the script's folder, with ``/``.

    Raises:
        CanNotHeal: a path is not named, or can't be replaced safely; the reason says which and why.

    """
    try:
        reading = Reading(cst.parse_module(source))
        if reading.module.bytes != source:
            raise CanNotHeal("the script can't be read and written again without other changes to its text")
        return _Rewriting(reading, files).result()
    except cst.CSTValidationError as error:
        raise CanNotHeal(f"the script's text leaves no room for the new expression: {error}") from error
    except cst.ParserSyntaxError as error:
        raise CanNotHeal(f"the script is not Python that can be parsed (line {error.raw_line})") from error
    except (UnicodeError, LookupError) as error:
        raise CanNotHeal("the script's text does not fit the encoding that it declares") from error
    except (SyntaxError, ValueError) as error:
        raise CanNotHeal(f"the script is not Python that can be parsed: {printable(str(error))}") from error
    except RecursionError as error:
        raise CanNotHeal("the script is nested too deeply to be changed safely") from error


class _Rewriting:
    def __init__(self, reading: Reading, files: Mapping[str, str]) -> None:
        self._reading = reading
        self._files = files

    def result(self) -> Rewritten:
        reading, files = self._reading, self._files
        found = _Finder(reading, files)
        reading.module.visit(found)
        for file in files:
            if file not in found.files:
                raise CanNotHeal(self._why_not_named(file))
        changes = changed_at(reading, files)
        if changes is not None:
            raise CanNotHeal(
                f"line {changes[0]} of the script also changes the file, by {changes[1]}: it is the script's own product"
            )
        self._check_nothing_left(found)
        bound = reading.bound_names()
        texts = any(not value.is_path for _, value in found.nodes.values())
        for name in ("__file__", *(["str"] if texts else [])):
            if name in bound:
                raise CanNotHeal(f"the script gives another meaning to {name}, which the new expression needs")
        nodes = [node for node, _ in found.nodes.values()]
        path = PathName(reading, nodes)
        if not path.expression:
            raise CanNotHeal("the script uses every name that pathlib.Path could be imported as")
        replacements = {id(node): self._expression(node, path.expression) for node in nodes}
        changed = reading.module.visit(_Replacer(replacements))
        if not isinstance(changed, cst.Module):
            raise CanNotHeal("the script can't be rewritten")
        module = path.add_import(changed)
        cst.parse_module(module.bytes)
        lines = tuple(sorted({reading.line(node) for node in nodes}))
        unused = reading.only_used_in(nodes, but=path.expression.split(".", maxsplit=1)[0])
        return Rewritten(module.bytes, lines, tuple(f"{name} (line {line})" for name, line in unused))

    def _expression(self, node: cst.BaseExpression, path: str) -> cst.BaseExpression:
        value = self._reading.value(node)
        if value is None:
            raise CanNotHeal("the script can't be rewritten")
        quote = _quote(node)
        place = self._files[value.file].split("/")
        up = len([part for part in place if part == ".."])
        folder = f"{path}(__file__).resolve()" + (f".parents[{up}]" if up > 1 else ".parent" * (up + 1))
        joined = " / ".join([folder, *(_literal(part, quote) for part in place[up:])])
        if not value.is_path:
            joined = f"str({joined})"
        elif not node.lpar and isinstance(self._reading.parent(node), _OPERANDS):
            joined = f"({joined})"
        new = cst.parse_expression(joined)
        return new.with_changes(lpar=node.lpar, rpar=node.rpar) if node.lpar else new

    def _why_not_named(self, file: str) -> str:
        """The reason why no expression stands for `file`, as well as it can be told."""
        name, folder = posixpath.basename(file), posixpath.dirname(file)
        reasons = []
        for node in _texts(self._reading.module):
            text = node.raw_value if isinstance(node, cst.SimpleString) else node.value
            if file in text or folder in text or name in text:
                line = self._reading.line(node)
                if file in text:
                    return f"line {line} names {printable(file)} in a way that can't be changed safely"
                reason = f"the script makes up the path at run time: line {line} holds a part of {printable(file)}"
                if unknown := self._unknown_beside(node):
                    return f"{reason}: {self._shown(node)}; what {self._code(unknown)} stands for can't be told from the text"
                reasons.append(f"{reason}: {self._shown(node)}")
        if reasons:
            return reasons[0]
        return f"the script does not name {printable(file)}"

    def _unknown_beside(self, text: cst.CSTNode) -> cst.CSTNode | None:
        """The first thing whose value is not known in the expression that `text` is a part of."""
        whole = text
        for outer in self._reading.ancestors(text):
            if isinstance(outer, cst.Arg | cst.FormattedStringExpression):
                continue
            is_part = isinstance(whole, cst.FormattedStringText) or any(part is whole for part in self._reading.operands(outer))
            if not is_part:
                break
            whole = outer
        return self._unknown(whole) if whole is not text else None

    def _unknown(self, node: cst.CSTNode) -> cst.CSTNode | None:
        if isinstance(node, cst.FormattedStringText) or self._reading.value(node) is not None:
            return None
        parts = self._reading.operands(node)
        return next((found for part in parts if (found := self._unknown(part)) is not None), None) if parts else node

    def _shown(self, node: cst.CSTNode) -> str:
        return capped(printable(self._reading.module.code.splitlines()[self._reading.line(node) - 1].strip()), _SHOWN)

    def _code(self, node: cst.CSTNode) -> str:
        return capped(printable(self._reading.module.code_for_node(node)), _SHOWN)

    def _check_nothing_left(self, found: _Finder) -> None:
        """Every text that holds one of the paths must be replaced, or be without effect."""
        for node in _texts(self._reading.module):
            text = node.raw_value if isinstance(node, cst.SimpleString) else node.value
            around = [node, *self._reading.ancestors(node)]
            for file in self._files:
                if file in text and not _is_comment(node, self._reading) and not any(id(outer) in found.nodes for outer in around):
                    line = self._reading.line(node)
                    raise CanNotHeal(f"line {line} names {printable(file)} inside another text, which can't be changed safely")


class _Finder(cst.CSTVisitor):
    """The outermost expressions that are built here and stand for one of the files."""

    def __init__(self, reading: Reading, files: Mapping[str, str]) -> None:
        super().__init__()
        self._reading = reading
        self._wanted = files
        self.nodes: dict[int, tuple[cst.BaseExpression, Value]] = {}
        self.files: set[str] = set()

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation):
            self._refuse_inside(node)
            return False
        if not isinstance(node, cst.BaseExpression):
            return True
        value = self._reading.value(node)
        if value is None or value.file not in self._wanted or not value.whole:
            return True
        if isinstance(node, _STRINGS) and _is_comment(node, self._reading):
            return False
        self._check_place(node)
        self.nodes[id(node)] = (node, value)
        self.files.add(value.file)
        return False

    def _check_place(self, node: cst.BaseExpression) -> None:
        line = self._reading.line(node)
        for outer in self._reading.ancestors(node):
            if isinstance(outer, cst.FormattedString):
                raise CanNotHeal(f"line {line} names the file inside an f-string, which can't be changed safely")
            if isinstance(outer, cst.ConcatenatedString):
                raise CanNotHeal(f"line {line} names the file as a part of another text")
            if isinstance(outer, cst.MatchPattern):
                raise CanNotHeal(f"line {line} names the file as a pattern of a match statement")
            if isinstance(outer, cst.BinaryOperation) and isinstance(outer.operator, cst.Add):
                raise CanNotHeal(f"line {line} makes another text out of the file's name")
            if isinstance(outer, cst.BaseStatement):
                break
        if any(isinstance(part, cst.Comment) for part in _parts(node)):
            raise CanNotHeal(f"line {line} has a comment inside the expression that would be replaced")

    def _refuse_inside(self, annotation: cst.Annotation) -> None:
        for node in _texts(annotation):
            if isinstance(node, cst.SimpleString) and node.raw_value in self._wanted:
                raise CanNotHeal(f"line {self._reading.line(node)} names the file in an annotation")


class _Replacer(cst.CSTTransformer):
    def __init__(self, replacements: Mapping[int, cst.BaseExpression]) -> None:
        super().__init__()
        self._replacements = replacements

    def on_visit(self, node: cst.CSTNode) -> bool:
        return id(node) not in self._replacements

    def on_leave(
        self, original_node: cst.CSTNodeT, updated_node: cst.CSTNodeT
    ) -> cst.CSTNodeT | cst.RemovalSentinel | cst.FlattenSentinel[cst.CSTNodeT]:
        return self._replacements.get(id(original_node), updated_node)  # type: ignore[return-value]  # an expression for an expression


def _is_comment(node: cst.CSTNode, reading: Reading) -> bool:
    """Whether a string stands alone as a statement: a docstring, or text without effect."""
    outer = node
    while isinstance(outer, (*_STRINGS, cst.FormattedStringText)):
        parent = reading.parent(outer)
        if isinstance(parent, cst.Expr):
            return True
        if parent is None:
            return False
        outer = parent
    return False


def _parts(node: cst.CSTNode) -> list[cst.CSTNode]:
    found, pending = [], [node]
    while pending:
        current = pending.pop()
        found.append(current)
        pending.extend(reversed(current.children))
    return found


def _texts(node: cst.CSTNode) -> list[cst.SimpleString | cst.FormattedStringText]:
    return [part for part in _parts(node) if isinstance(part, cst.SimpleString | cst.FormattedStringText)]


def _quote(node: cst.CSTNode) -> str:
    for part in _parts(node):
        if isinstance(part, cst.SimpleString | cst.FormattedString):
            return part.quote[0]
    return '"'


def _literal(text: str, quote: str) -> str:
    plain = text.isascii() and text.isprintable() and "\\" not in text and quote not in text
    return f"{quote}{text}{quote}" if plain else ascii(text)
