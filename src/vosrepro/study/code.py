"""The digest of what a piece of code does: of its import closure, without comments, docstrings and layout.

A result depends on the module that makes it and on all that this module imports, wherever the files lie. Imports
for annotations only do not count, imports inside of functions do, and a name that a package merely passes on
counts as an import of the module that defines it.
"""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vosrepro.base.errors import ConfigError

#: Fields of syntax trees that say nothing of what the code does.
_SILENT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


@dataclass(frozen=True)
class _File:
    """What one parse of a file yields.

    Attributes:
        digest: of its statements.
        imports: (module, name) of every import that runs; name "" for `import module`.
        passed_on: names that it binds by a top-level import, and where they come from.
    """

    digest: str
    imports: tuple[tuple[str, str], ...]
    passed_on: dict[str, tuple[str, str]]


@cache
def code_digest(*modules: str) -> str:
    """16 hexadecimal digits of what the import closure of some modules does.

    Args:
        modules: full names, e.g. "vosrepro.inference.videos", "vosrepro.methods.stm".

    Raises:
        ConfigError: if there is no such module.
    """
    total = hashlib.sha256()
    for module in sorted(closure(*modules)):
        total.update(f"{module} {_parsed(module).digest}\n".encode())
    return total.hexdigest()[:16]


@cache
def closure(*modules: str) -> frozenset[str]:
    """All modules of the same packages that would be imported with `modules`, themselves among them.

    Raises:
        ConfigError: if there is no such module.
    """
    packages = {module.partition(".")[0] for module in modules} | {"vosrepro"}
    found: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module in found:
            continue
        if source_of(module) is None:
            raise ConfigError(f"there is no module '{module}': correct its name, or install the package that has it")
        found.add(module)
        for target, name in _parsed(module).imports:
            if target.partition(".")[0] in packages:
                todo.append(_definer(target, name))
    return frozenset(found)


@cache
def source_of(module: str) -> Path | None:
    """The file of a module; None if there is none."""
    top, _, rest = module.partition(".")
    root = _package(top)
    if root is None:
        spec = None if rest else _spec(top)
        return Path(spec.origin) if spec is not None and spec.origin else None  # a module without a package
    path = root.joinpath(*rest.split(".")) if rest else root
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file() and (rest or file.name == "__init__.py"):
            return file
    return None


@cache
def _package(top: str) -> Path | None:
    spec = _spec(top)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None


def _spec(top: str) -> ModuleSpec | None:
    """Where a package or module is found; it may be running as a program, which has no specification."""
    try:
        return find_spec(top)
    except ValueError:
        return PathFinder.find_spec(top)


def _definer(module: str, name: str) -> str:
    """The module that `from module import name` needs."""
    while True:
        if name and source_of(f"{module}.{name}") is not None:
            return f"{module}.{name}"
        origin = _parsed(module).passed_on.get(name) if _is_package(module) else None
        if origin is None or source_of(origin[0]) is None:
            return module
        module, name = origin


def _is_package(module: str) -> bool:
    file = source_of(module)
    return file is not None and file.name == "__init__.py"


@cache
def _parsed(module: str) -> _File:
    file = source_of(module)
    assert file is not None, module
    return _parse(file, file.stat().st_mtime_ns)


@cache
def _parse(file: Path, _changed: int) -> _File:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports: list[tuple[str, str]] = []
    _collect(tree.body, imports)
    passed_on = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            passed_on |= {a.asname or a.name: (node.module, a.name) for a in node.names}
    words: list[str] = []
    _write(tree, words)
    return _File(hashlib.sha256("\n".join(words).encode()).hexdigest(), tuple(imports), passed_on)


def _collect(body: list[ast.stmt], imports: list[tuple[str, str]]) -> None:
    """Imports of these statements and of all inside them, but for those under `if TYPE_CHECKING`."""
    for node in body:
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute here"
            imports += [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            imports += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.If) and _only_for_annotations(node.test):
            _collect(node.orelse, imports)
        else:
            for name in ("body", "orelse", "finalbody"):
                _collect(getattr(node, name, []), imports)
            for inner in (*getattr(node, "handlers", []), *getattr(node, "cases", [])):
                _collect(inner.body, imports)


def _only_for_annotations(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _write(node: ast.AST, words: list[str]) -> None:
    """A text that is equal for equal statements, on every Python: fields that are empty are left out."""
    words.append(node.__class__.__name__)
    for field in node._fields:
        if field in _SILENT:
            continue
        value = getattr(node, field, None)
        if value is None and not isinstance(node, ast.Constant):
            continue
        if isinstance(value, list):
            if field == "body" and value and _is_docstring(value[0]):
                value = value[1:]
            if not value:
                continue
            words.append(f"{field}[")
            for item in value:
                _write(item, words) if isinstance(item, ast.AST) else words.append(repr(item))
            words.append("]")
        elif isinstance(value, ast.AST):
            words.append(field)
            _write(value, words)
        else:
            words.append(f"{field}={value!r}")
    words.append(".")


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
