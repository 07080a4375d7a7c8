-- Note that an identity provider has ended something, so that no login which is under way completes.
-- KEYS: what the provider calls it. ARGV: how long this is kept[, 1: only if a login has entered it].
-- Answers {key, now, its users}. If the server is full, so that the note is refused, no login completes either.
if ARGV[2] == '1' and redis.call('EXISTS', KEY) == 0 then return {KEY, now, {}} end
local expires = math.max(current_expiry(KEY), now + ARGV[1])
-- It counts for all that have entered so far.
local last = redis.call('ZREVRANGE', KEY, 0, 0, 'WITHSCORES')[2] or 0
redis.pcall('ZADD', KEY, math.max(now, tonumber(last)), 'revoked')
redis.pcall('PEXPIREAT', KEY, expires)
return {KEY, now, redis.call('ZRANGE', KEY, 0, -1)}
