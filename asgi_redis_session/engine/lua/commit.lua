-- Write fields into a session that still is as it was loaded, and leave its TTL alone: the request has extended it.
-- KEYS: session.
-- ARGV: @deadline and @idle as they were loaded ('' for none, which is no valid value), then names and values.
-- Answers {key, 1}; or {key, CHANGED}, and then nothing was written: save.lua finds out what is there.
local KEY, CHANGED = KEYS[1], -5
local meta = redis.pcall('HMGET', KEY, '@v', '@deadline', '@idle')
local function is_same(held, loaded)
  if held then return held == loaded and held ~= '' end
  return loaded == ''
end
if meta[1] ~= '1' or not is_same(meta[2], ARGV[1]) or not is_same(meta[3], ARGV[2]) then return {KEY, CHANGED} end
redis.call('HSET', KEY, unpack(ARGV, 3))
return {KEY, 1}
