-- In a Cluster: leave the tombstone of a session whose key was just taken away. Not in the script that took it, because
-- a script on two keys is refused while their slot moves to another node.
-- KEYS: the tombstone[, the session's channel]. ARGV: why, how long that is remembered[, a note].
bury(KEY, ARGV[1], ARGV[2], ARGV[3])
announce(KEYS[2], ARGV[1], true)
return {KEY, 1}
