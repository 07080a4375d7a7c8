-- End a session.
-- KEYS: session[, its tombstone[, its channel]]. ARGV: the store's idle[, why it ends, how long that is remembered[, a note]].
-- Answers {key, 1, its user if it had one}, or GONE or CORRUPT.
local idle, state = alive(KEY, ARGV[1])
if not idle then return {KEY, state} end
local user = redis.call('HGET', KEY, '@user')
redis.call('DEL', KEY)
if KEYS[2] then bury(KEYS[2], ARGV[2], ARGV[3], ARGV[4]) end
announce(KEYS[3], ARGV[2])
return {KEY, 1, user}
