"""
The public API as text, read from the source without running it.

`python -m tests.api.surface` writes `surface.txt` again. A change to that file is a change to the
public API, so it needs a line in CHANGELOG.md.
"""

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import asgi_redis_session

PACKAGE = Path(asgi_redis_session.__file__).parent
SNAPSHOT = Path(__file__).with_name("surface.txt")

#: Modules that apps import from.
MODULES = (
    "",
    "devserver",
    "dropin",
    "fastapi",
    "gateway",
    "litestar",
    "metrics",
    "oidc",
    "otel",
    "starlette",
    "testing",
)
#: What an app gets from those without importing it: the types of attributes and arguments.
REACHED = {
    "doctor.report": ("Level",),
    "events": ("EndReason", "EventName"),
    "exchange": ("Refresh",),
    "options": ("Duration",),
    "search.queries": ("Search",),
    "store": ("StoreOptions",),
    "users": ("Users",),
}
#: Made by the library only, so their constructors may change.
NOT_CONSTRUCTED = {"Filter", "OpenedSession", "Search", "Session", "Users"}
#: Written by every class for itself, or of no use to an app.
_OWN_BUSINESS = {"__init__", "__notes__", "__post_init__", "__reduce__", "__repr__", "__slots__"}

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Assign | ast.AnnAssign


def describe() -> str:
    """Return the whole public API."""
    parts: list[str] = []
    for module in MODULES:
        parts.append(f"# {_title(module)}")
        parts += [_described(module, name) for name in exported(module)]
    parts.append("# Reached from those")
    for module, names in REACHED.items():
        parts += [_described(module, name) for name in names]
    return "\n\n".join(parts) + "\n"


def exported(module: str) -> list[str]:
    """Return `__all__` of a module."""
    value = next(
        node.value
        for node in _tree(module).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    names: list[str] = ast.literal_eval(value)
    return names


def _title(module: str) -> str:
    return f"asgi_redis_session.{module}" if module else "asgi_redis_session"


def _described(module: str, name: str) -> str:
    found = _find(module, name)
    if found is None:
        raise LookupError(f"{_title(module)} has no {name}")
    home, node = found
    if isinstance(node, ast.ClassDef):
        return "\n".join(_class_lines(home, node))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return "\n".join(_function_lines(node))
    return ast.unparse(node)


# --- Where a name is defined ---


@lru_cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_path(module).read_text())


def _path(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _find(module: str, name: str) -> tuple[str, _Definition] | None:
    """Return the definition of a name and its module; None if it is another package's."""
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom):
            if any((alias.asname or alias.name) == name for alias in node.names):
                source = _source(module, node)
                return None if source is None else _find(source, name)
        elif isinstance(node, _Definition) and name in _names(node):
            return module, node
    return None


def _source(module: str, node: ast.ImportFrom) -> str | None:
    """The module of this package that is imported from; None for another package."""
    if not node.level:
        return None
    package = module.split(".") if module else []
    if _path(module).name != "__init__.py":
        package = package[:-1]
    package = package[: len(package) - (node.level - 1)]
    return ".".join([*package, *(node.module or "").split(".")])


def _names(node: _Definition) -> list[str]:
    if isinstance(node, ast.Assign):
        return [ast.unparse(target) for target in node.targets]
    if isinstance(node, ast.AnnAssign):
        return [ast.unparse(node.target)]
    return [node.name]


# --- As text ---


def _class_lines(module: str, node: ast.ClassDef) -> Iterator[str]:
    yield from _decorators(node)
    bases = ", ".join(ast.unparse(part) for part in [*node.bases, *node.keywords])
    yield f"class {node.name}({bases}):" if bases else f"class {node.name}:"
    seen: set[str] = set()
    for home, base in _lineage(module, node):
        if base is not node and base.name in exported(""):
            yield f"    # and all of {base.name}"
            continue
        members = [member for member in base.body if isinstance(member, _Definition)]
        own = [member for member in members if not seen.intersection(_names(member))]
        for member in own:
            yield from [f"    {line}" for line in _member_lines(node.name, home, member)]
        seen.update(name for member in members for name in _names(member))


def _lineage(module: str, node: ast.ClassDef) -> Iterator[tuple[str, ast.ClassDef]]:
    """A class, and its bases in this package."""
    yield module, node
    for base in node.bases:
        found = _find(module, ast.unparse(base))
        if found is not None and isinstance(found[1], ast.ClassDef):
            yield from _lineage(found[0], found[1])


def _member_lines(owner: str, module: str, member: _Definition) -> Iterator[str]:
    if isinstance(member, ast.ClassDef):
        raise NotImplementedError(f"{module}.{owner} has a class of its own")
    if isinstance(member, ast.Assign | ast.AnnAssign):
        if not _names(member)[0].startswith("_"):
            yield ast.unparse(member)
        return
    if member.name == "__init__":
        if owner not in NOT_CONSTRUCTED:
            yield from _function_lines(member)
        yield from sorted(_set_in(member))
    elif member.name not in _OWN_BUSINESS and (
        not member.name.startswith("_") or member.name.endswith("__")
    ):
        yield from _function_lines(member)


def _set_in(constructor: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """The public attributes that a constructor sets."""
    for node in ast.walk(constructor):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and not target.attr.startswith("_"):
                yield ast.unparse(target)


def _function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    yield from _decorators(node)
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    yield f"{word} {node.name}({ast.unparse(node.args)}){returns}"


def _decorators(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        yield f"@{ast.unparse(decorator)}"


if __name__ == "__main__":
    SNAPSHOT.write_text(describe())
    print(f"{SNAPSHOT} is up to date. Is the change in CHANGELOG.md?")
