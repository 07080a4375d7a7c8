"""The scripts: their states in both languages, their names, their results."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from asgi_redis_session.engine import scripts
from asgi_redis_session.transport.scripts import Script

pytestmark = pytest.mark.anywhere

LUA = files("asgi_redis_session.engine") / "lua"


def test_states_are_the_same_in_lua_and_in_python() -> None:
    """Each state code of common.lua is in scripts.py, with its value and meaning, and no other."""
    text = (LUA / "common.lua").read_text()
    ((names, values),) = re.findall(r"^local ([A-Z, ]+) = ([-\d, ]+)$", text, re.MULTILINE)
    states = dict(zip(names.split(", "), map(int, values.split(", ")), strict=True))
    assert len(states) == len(set(states.values())) == 8
    in_python = {n: v for n, v in vars(scripts).items() if n.isupper() and isinstance(v, int)}
    assert in_python == states
    assert all(value <= 0 for value in states.values())  # an instant is above 0
    in_lua = re.findall(r"^--   ([A-Z]+) +(.+)$", text, re.MULTILINE)
    source = Path(scripts.__file__).read_text()
    assert re.findall(r"^([A-Z]+) = -?\d  # (.+)$", source, re.MULTILINE) == in_lua
    assert len(in_lua) == len(states)


def test_a_script_uses_no_state_that_is_not_defined() -> None:
    """Every state in capitals that a script answers is one of common.lua."""
    for path in LUA.iterdir():
        answered = set(re.findall(r"return \{KEY, ([A-Z]+)\}", path.read_text()))
        assert answered <= {n for n in vars(scripts) if n.isupper()}, path.name


def test_a_script_is_sent_under_its_name() -> None:
    """`grep scripts.SAVE` finds who sends a script."""
    package = Path(scripts.__file__).parent.parent
    sent = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r"\bscripts\.([A-Z_]+)\b", path.read_text())
    }
    named = {name for name, value in vars(scripts).items() if isinstance(value, Script)}
    assert named - sent == {"PROVE"}  # the transport sends it
    assert len(named) == len(scripts.SCRIPTS)


def test_every_file_of_lua_is_part_of_a_script() -> None:
    """No script lies about unused, and each is named after its file."""
    named = {name for script in scripts.SCRIPTS for name in script.name.split("+")}
    named -= {"renew", "prove"}  # named after a verb, and a part of the transport
    common = {"common", "places_common", "reseal", "unlisted"}
    assert named | common == {path.name.removesuffix(".lua") for path in LUA.iterdir()}
    sealed = {scripts.RENEW_SEALED, scripts.LOGIN_SEALED, scripts.TAKE_HASH_SEALED}  # same steps
    plain = [script.name for script in scripts.SCRIPTS if script not in sealed]
    assert len(set(plain)) == len(plain)
    assert len({script.sha for script in scripts.SCRIPTS}) == len(scripts.SCRIPTS)
