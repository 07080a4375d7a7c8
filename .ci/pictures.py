"""
Takes screenshots over as pictures of a document, small enough for its page.

`make screenshots` calls it with the folder of the screenshots, that of the pictures, and names.
"""

import sys
from pathlib import Path
from typing import Any

from PIL import Image

_WIDTH = 960
_COLOURS = 256


def main(screenshots: Path, pictures: Path, *names: str) -> None:
    for name in names:
        with Image.open(screenshots / f"{name}.png") as image:
            height = round(image.height * _WIDTH / image.width)
            small = image.convert("RGB").resize((_WIDTH, height), Image.Resampling.LANCZOS)
        picture = pictures / f"demo-{name}.png"
        small.quantize(palette=_palette(small), dither=Image.Dither.NONE).save(
            picture, optimize=True
        )
        print(f"{picture}: {picture.stat().st_size // 1024} KB")


def _palette(image: Image.Image) -> Image.Image:
    """The colours of areas, as they are, and others between which those of edges are chosen."""
    edges = image.quantize(_COLOURS // 2, Image.Quantize.MAXCOVERAGE).getpalette() or []
    counted: Any = image.getcolors(image.width * image.height)
    most_used = [part for _, colour in sorted(counted, reverse=True) for part in colour]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*most_used[: 3 * _COLOURS // 2], *edges])
    return palette


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
