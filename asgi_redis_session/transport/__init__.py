"""
How commands reach a Redis server. Knows nothing about sessions.

A call goes down through these modules, and its reply comes back the same way:

- `client`: sends a script, in full or by its SHA-1, and again where that is safe.
- `scripts`: a Lua script as a command, and its reply as a named result.
- `route`, `cluster`: which connection leads to a key.
- `lane`, `batch`: collects the commands of all callers into batches, and matches replies with
  callers. `watch` is its clock.
- `proof`: shows that the replies to plain commands are those of their batch. `barrier` waits until
  a batch has reached replicas or the disk.
- `connection`, `parser`, `pool`, `url`: how a connection is made, checked, read and replaced.

`outages` turns what fails into `SessionUnavailable`, and one line in the log.
"""
