-- Note that a user logs in on a session of an identity provider.
-- KEYS: what the provider calls it. ARGV: the user, 1 if it can't be used again after its end, how long this is kept.
-- Answers {key, when it was entered}, or GONE: the provider has ended it.
local revoked = redis.call('ZSCORE', KEY, 'revoked')
if revoked and ARGV[2] == '1' then return {KEY, GONE} end
-- After an end in the same millisecond.
-- Of a key that lives on and on, such as that of somebody who acts for many users, one that has entered 400 days ago
-- goes for each that comes: no session that it tells of is looked for any longer.
local oldest = redis.call('ZRANGE', KEY, 0, 0, 'WITHSCORES')
if oldest[2] and tonumber(oldest[2]) < now - 400 * 86400000 then redis.call('ZREM', KEY, oldest[1]) end
local entered = math.max(now, tonumber(revoked or 0) + 1)
local expires = math.max(current_expiry(KEY), now + ARGV[3])
redis.call('ZADD', KEY, entered, 'user:' .. ARGV[1])
local done = redis.pcall('PEXPIREAT', KEY, expires)
if done ~= 1 then
  -- A key without a TTL must never remain, even if a permission is missing.
  redis.call('ZREM', KEY, 'user:' .. ARGV[1])
  return done
end
return {KEY, entered}
