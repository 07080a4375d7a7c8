"""The documents of the project, and the blocks of code in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text()
    return [body for kind, body in BLOCK.findall(text) if kind == language]


def guide(text: str) -> str:
    """The one block of the guide that contains this text."""
    (block,) = [block for block in blocks("docs/guide.md", "python") if text in block]
    return block
