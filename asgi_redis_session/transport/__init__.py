"""
How commands reach a Redis server. Knows nothing about sessions.

A call goes down through these modules, and its reply comes back the same way:

- `client`: sends a script, in full or by its SHA-1, and again where that is safe. `queries` does
  that for search.
- `scripts`: a Lua script as a command, and its reply as a named result.
- `routes`, `route`, `cluster`: which connection leads to a key.
- `lane`, `batch`: collects the commands of all callers into batches. `watch` is its clock.
- `replies`: reads the replies, and matches them with their callers.
- `proof`: shows that the replies to plain commands are those of their batch. `barrier` waits until
  a batch has reached replicas or the disk.
- `connection`, `parser`, `pool`, `url`: how a connection is made, checked, read and replaced.

`outages` turns what fails into `SessionUnavailable`, and one line in the log.
"""
