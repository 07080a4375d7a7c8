"""The site is built, and each address that the library prints leads to a section of it."""

import ast
import gzip
import re
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from pkgutil import walk_packages
from urllib.parse import urldefrag

import pytest
import yaml

import asgi_redis_session
from asgi_redis_session import SearchUnavailable, SessionNotLoaded
from asgi_redis_session.pages import DOCUMENTATION, Explained, see

from ..support.documents import ROOT, blocks
from ..support.silence import load_from_nowhere

pytestmark = pytest.mark.anywhere

PACKAGE = Path(asgi_redis_session.__file__).parent
PAGE = (ROOT / "docs/errors.md").read_text()
SECTIONS = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def _errors(base: type[Explained] = Explained) -> Iterator[str]:
    """The names of all classes of errors, of all modules."""
    for each in base.__subclasses__():
        yield each.__name__
        yield from _errors(each)


def _said() -> Iterator[str]:
    """The names of log records and warnings, from the calls that make them."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("about", "see"):
                if isinstance(node.args[0], ast.Constant):
                    yield str(node.args[0].value)
                else:
                    assert path.name in ("records.py", "pages.py"), f"{path}:{node.lineno}"
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                assert "see(" in ast.unparse(node), f"{path}:{node.lineno} leads nowhere"


@pytest.fixture(scope="module")
def kinds() -> set[str]:
    """All kinds of messages that the library can print with an address."""
    for module in walk_packages([str(PACKAGE)], "asgi_redis_session."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    return {*_errors(), *_said()}


class _Anchors(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(page)

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attrs if name == "id" and value}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make site` builds it: a broken link is an error."""
    folder = tmp_path_factory.mktemp("site")
    (command,) = re.findall(r"^site:.*\n\t@(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert "$(VENV)/bin/mkdocs build --quiet --strict" in command
    build = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    return folder


def test_every_kind_of_message_has_a_section(kinds: set[str]) -> None:
    """Each error, log record and warning has one; those of older versions may stay."""
    assert kinds <= set(SECTIONS)
    assert len(kinds) > 35


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_section_says_all_that_is_needed(kind: str) -> None:
    """What it means, why, what to do, and how to check that it is over, in this order."""
    assert re.findall(r"^- \*\*(.*?)\*\*:\s+\S", SECTIONS[kind], re.MULTILINE) == [
        "Means",
        "Why",
        "Do",
        "Check",
    ]


def test_every_address_is_in_the_site(kinds: set[str], site: Path) -> None:
    """Page and section exist there, under the address that is printed."""
    for kind in kinds:
        address, section = urldefrag(see(kind).removeprefix("See "))
        page = site / address.removeprefix(DOCUMENTATION) / "index.html"
        assert section in _Anchors(page.read_text()).found, kind


class _Loaded(HTMLParser):
    """What a browser loads with a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") == "stylesheet":
            self.found.append(str(given["href"]))
        self.found += [str(given[name]) for name in ("src", "data") if given.get(name)]
        assert given.get("data-md-component") != "source", "it asks GitHub"


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    """Who reads the site is known to nobody else, and a page works wherever the site does."""
    for page in site.rglob("*.html"):
        assert not [each for each in _Loaded(page.read_text()).found if "//" in each], page


def test_the_start_page_is_light(site: Path) -> None:
    """Compressed, as servers send it, with its pictures and the index of the search apart."""

    def weight(*paths: Path) -> int:
        return sum(len(gzip.compress(path.read_bytes())) for path in paths)

    start = site / "index.html"
    files = [site / name for name in _Loaded(start.read_text()).found]
    pictures = [path for path in files if path.suffix == ".png"]
    assert len(files) > len(pictures) + 2
    assert weight(start, *(path for path in files if path not in pictures)) < 100_000
    assert weight(*pictures) < 200_000
    assert weight(site / "search/search_index.json") < 200_000


def test_the_picture_of_the_house_is_true() -> None:
    """Its rows name layers in the order in which import-linter checks them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    house = project["tool"]["importlinter"]["contracts"][0]["layers"]
    layer = {name: at for at, row in enumerate(house) for name in re.findall(r"\w+", row)}
    picture = (ROOT / "docs/house.svg").read_text()
    named = re.findall(r'y="(\d+)">([a-z]+/|[a-z/]+(?: · [a-z/]+)+)<', picture)
    rows = [
        [layer[name] for name in re.findall(r"\w+", row)]
        for _, row in sorted(named, key=lambda found: int(found[0]))
    ]
    assert len(rows) == 8
    for above, below in pairwise(rows):
        assert max(above) < min(below)


def test_the_address_of_the_site_is_written_once() -> None:
    """The package, its metadata and the site agree on it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Documentation"] == DOCUMENTATION
    (line,) = re.findall(r"^site_url: .*$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert yaml.safe_load(line) == {"site_url": DOCUMENTATION}


def test_the_page_asks_the_doctor_as_deployment_does() -> None:
    """tests/deployment runs that command."""
    assert blocks("docs/errors.md", "console") == blocks("docs/deployment.md", "console")


def test_a_traceback_ends_with_the_address() -> None:
    """The message stays as it is, and an app may add notes of its own."""
    error = SessionNotLoaded()
    assert "http" not in str(error)
    error.add_note("In the handler of /cart.")
    assert "".join(traceback.format_exception(error)).splitlines()[-2:] == [
        see("SessionNotLoaded"),
        "In the handler of /cart.",
    ]
    assert "http" not in str(SearchUnavailable("Not yet."))


async def test_a_log_line_ends_with_the_address(
    prefix: str, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays one line, and the attributes have no address."""
    await load_from_nowhere(prefix, unused_tcp_port, caplog)
    (line,) = caplog.messages
    assert line.endswith(f". {see('redis_silent')}")
    assert "\n" not in line
    assert "http" not in vars(caplog.records[0])["reason"]
