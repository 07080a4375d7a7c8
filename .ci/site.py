"""
Hooks of mkdocs.yml: pages of the site that are no files below docs/, and links that lead elsewhere.

The README, CONTRIBUTING and CHANGELOG are pages, and so is a reference of all public names. A link
to a file of the repository that is no page leads to GitHub.
"""

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
#: Every page loads the index of the search, so what few search for is not in it.
NOT_SEARCHED = ("changelog.md", "contributing.md")
REPOSITORY = "https://github.com/asgi-redis-session/asgi-redis-session/blob/main"
#: The README names its pictures so, because PyPI shows it alone.
PICTURES = "https://github.com/asgi-redis-session/asgi-redis-session/raw/main"
#: Pages that are files outside of docs/.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
#: Modules of the reference, and what to install for them.
MODULES = {
    "": "What every app needs.",
    "fastapi": "Dependencies for FastAPI (extra `fastapi`).",
    "starlette": "For Starlette, and everything that is built on it.",
    "litestar": "A plugin for Litestar (extra `litestar`).",
    "dropin": "Starlette's `SessionMiddleware`, with the data in Redis: see [moving](moving.md).",
    "gateway": "An app that proxies ask: see [gateways](gateways.md).",
    "oidc": "Central logout by OpenID Connect (extra `oidc`).",
    "metrics": "Metrics for Prometheus (extra `metrics`): see [observability](observability.md).",
    "otel": "OpenTelemetry (extra `otel`).",
    "testing": "Fixtures for pytest: see the [guide](guide.md#testing-your-app).",
    "devserver": "A private Redis for development and tests.",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are no files below docs/."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    files.append(File.generated(config, "reference.md", content=_reference()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to pages where there is one, and to the repository elsewhere."""
    source = next((name for name, at in PAGES.items() if at == page.file.src_uri), None)
    folder = ROOT if source else (ROOT / "docs" / page.file.src_uri).parent
    page.meta["search"] = {"exclude": page.file.src_uri in NOT_SEARCHED}

    def led(match: re.Match[str]) -> str:
        base, target, anchor = match[1] or "", match[2], match[3] or ""
        start = ROOT if base else folder
        path = (start / target).resolve()
        if not target or not path.is_relative_to(ROOT) or not path.exists():
            return match[0]
        return f"]({_page_of(path, page.file.src_uri)}{anchor})"

    bases = "|".join(re.escape(f"{base}/") for base in (REPOSITORY, PICTURES))
    return re.sub(rf"\]\(({bases})?(?!\w+:)([^)\s#]*)(#[^)\s]+)?\)", led, markdown)


def _page_of(path: Path, source: str) -> str:
    """Return where a file of the repository is, as a link from the page *source*."""
    inside = str(path.relative_to(ROOT))
    page = PAGES.get(inside, inside.removeprefix("docs/"))
    if page == inside and inside not in PAGES:  # it is no page
        return f"{REPOSITORY}/{inside}"
    return "../" * source.count("/") + page


def _reference() -> str:
    parts = ["# Reference", "All public names, from their docstrings."]
    for module, says in MODULES.items():
        name = ".".join(["asgi_redis_session", *([module] if module else [])])
        parts += [f"## {name}", says]
        parts += [f"::: {name}.{public}" for public in _exported(module)]
    return "\n\n".join(parts) + "\n"


def _exported(module: str) -> list[str]:
    package = ROOT / "asgi_redis_session"
    path = package / module / "__init__.py"
    source = (path if path.exists() else package / f"{module}.py").read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise LookupError(f"{module} has no __all__")
