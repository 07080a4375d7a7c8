"""With what and on what something was measured; nothing that tells where on the machine."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .contenders import CONTENDERS
from .load import ROOT


def describe(version: str) -> dict[str, Any]:
    """With what, on what, when; nothing that tells where on the machine."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redis": version,
        "packages": {
            environment: _versions(ROOT / environment)
            for environment in sorted({contender.environment for contender in CONTENDERS})
        },
        "load_average_before": os.getloadavg(),
    }


PACKAGES = (
    *("starlette", "fastapi", "uvicorn", "uvloop", "httptools", "redis", "hiredis", "msgspec"),
    *("starsessions", "fastapi-redis-sdk", "starlette-session", "asgi-redis-session"),
)


def _versions(environment: Path) -> dict[str, str]:
    folders = [str(path) for path in environment.glob("lib/python*/site-packages")]
    found = importlib.metadata.distributions(path=folders)
    versions = {
        distribution.name.lower().replace("_", "-"): distribution.version for distribution in found
    }
    return {name: versions[name] for name in PACKAGES if name in versions}
