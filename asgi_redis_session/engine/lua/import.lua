-- Create a session from one of another middleware, once: it is put in front of create.lua.
-- KEYS: session, the mark that it was imported.
-- ARGV: how long the mark lives, or '' to only look; then the arguments of create.lua.
-- Answers {key, 1} if there is a session already, GONE if there was one, FREE if there was none and this call only
-- looks, or goes on.
if redis.call('EXISTS', KEY) == 1 then return {KEY, 1} end
if redis.call('ZSCORE', KEYS[2], 'imported') then return {KEY, GONE} end
local lasts = table.remove(ARGV, 1)
if lasts == '' then return {KEY, FREE} end
redis.call('ZADD', KEYS[2], now, 'imported')
local marked = redis.pcall('PEXPIREAT', KEYS[2], now + lasts)
if marked ~= 1 then
  -- A key without a TTL must never remain, even if a permission is missing.
  redis.call('ZREM', KEYS[2], 'imported')
  return marked
end
