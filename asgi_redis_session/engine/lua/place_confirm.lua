-- The hash is written: keep the place, unless it was revoked meanwhile, or the hash has vanished.
-- KEYS: index[, session].
-- ARGV: handle, the login time or '' for when the place was reserved, lifetime[, when the session expires].
-- Answers {key, 1 or 0}.
local score = redis.call('ZSCORE', KEY, ARGV[1])
if not score then return {KEY, 0} end
local since = ARGV[2] == '' and math.abs(tonumber(score)) or tonumber(ARGV[2])
local failure = add(ARGV[1], since, tonumber(ARGV[3]))
if failure then return failure end
return {KEY, KEYS[2] and redis.call('PEXPIREAT', KEYS[2], ARGV[4]) or 1}
