-- End a session.
-- KEYS: session. ARGV: the store's idle.
-- Answers {key, 1, its user if it had one}, or GONE or CORRUPT.
local idle, state = alive(KEY, ARGV[1])
if not idle then return {KEY, state} end
local user = redis.call('HGET', KEY, '@user')
redis.call('DEL', KEY)
return {KEY, 1, user}
