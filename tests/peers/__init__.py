"""
What the tests of other session libraries show an app, shown of this one.

A test here has the name of theirs, and no line of it: their source distributions bring no tests.
`EXCEPTED` in each module names the others, with the reason. `python -m tests.peers` counts both,
and those of Starlette's own suite, which runs as it is with its import swapped.
"""
