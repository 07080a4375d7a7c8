"""
Which JSON library for nested values: speed as ratios from one run, and exactness.

    python -m benchmarks.codec
"""

import json
import timeit
from typing import Any

import msgspec
import orjson

CART = [{"sku": f"SKU-{number}", "quantity": number, "price": 9.99} for number in range(10)]
EXACT = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1e22, 2**53 + 1, 2**64, -(2**70), "é\u2028😀"]
REFUSED = [b"[NaN]", b'["\\ud800"]', b"[1e999]", b"[01]", b"[1]x", b'["\xff"]']

_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
LIBRARIES: dict[str, tuple[Any, Any]] = {
    "json": (lambda value: _text(value).encode(), json.loads),
    "msgspec": (msgspec.json.Encoder().encode, msgspec.json.Decoder().decode),
    "orjson": (orjson.dumps, orjson.loads),
}


def exact(library: str) -> str:
    encode, decode = LIBRARIES[library]
    kept = 0
    for value in EXACT:
        try:
            kept += repr(decode(encode([value]))) == repr([value])
        except (ValueError, TypeError):
            continue
    return f"{kept}/{len(EXACT)}"


def strict(library: str) -> str:
    _, decode = LIBRARIES[library]
    refused = 0
    for raw in REFUSED:
        try:
            decode(raw)
        except (ValueError, msgspec.DecodeError):
            refused += 1
    return f"{refused}/{len(REFUSED)}"


def best(statement: Any) -> float:
    return min(timeit.repeat(statement, number=2000, repeat=7))


def main() -> None:
    raw = LIBRARIES["json"][0](CART)
    times = {
        name: (best(lambda e=encode: e(CART)), best(lambda d=decode: d(raw)))
        for name, (encode, decode) in LIBRARIES.items()
    }
    base = times["json"]
    print("| library | encode, times as fast | decode, times as fast | exact | bad input refused |")
    print("| --- | --- | --- | --- | --- |")
    for name, (encoding, decoding) in times.items():
        print(
            f"| {name} | {base[0] / encoding:.1f} | {base[1] / decoding:.1f} "
            f"| {exact(name)} | {strict(name)} |"
        )


if __name__ == "__main__":
    main()
