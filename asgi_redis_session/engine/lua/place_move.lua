-- Reserve a place for a session that is renewed.
-- KEYS: index. ARGV: old handle, new handle, the session's login time in case the index has lost it, lifetime.
-- Answers {key, 1, login time, 1 if there was something else than an index}.
local since = redis.call('ZSCORE', KEY, ARGV[1]) or ARGV[3]
local failure = add(ARGV[2], -next_instant(), tonumber(ARGV[4]))
return failure or {KEY, 1, math.abs(tonumber(since)), was_occupied}
