-- The hash is written: keep the place, unless somebody has revoked it meanwhile.
-- KEYS: index. ARGV: handle, the login time or '' for when the place was reserved, lifetime.
-- Answers {key, 1 or 0}.
local score = redis.call('ZSCORE', KEY, ARGV[1])
if not score then return {KEY, 0} end
local since = ARGV[2] == '' and math.abs(tonumber(score)) or tonumber(ARGV[2])
local failure = add(ARGV[1], since, tonumber(ARGV[3]))
return failure or {KEY, 1}
