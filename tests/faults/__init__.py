"""
What happens when Redis, the network or the app fails, on real processes.

Read `README.md` first: the table of all faults. `servers` is a redis-server that may die, `shop`
the app under load, `journal` the client that writes down what it was told and looks afterwards
whether that was true; `tests/support/gate.py` is the network. Each kind of fault has its file of
tests.
"""
