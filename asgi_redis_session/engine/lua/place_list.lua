-- List places.
-- KEYS: index. ARGV, one of:
--   'newest', offset, limit: of written sessions, the latest login first
--   'all', offset, limit: all places, in order
--   'some', 0, limit: places taken at random
--   'until', an instant or '' for now, limit, handles to leave out: places of sessions that logged in until then, and
--   all that are only reserved
-- Answers {key, now or the instant, {handle, score, ...}, 1 if there was something else than an index}.
if ARGV[1] == 'newest' then
  return {KEY, now, redis.call(
    'ZREVRANGEBYSCORE', KEY, '+inf', 0, 'WITHSCORES', 'LIMIT', ARGV[2], ARGV[3]), was_occupied}
elseif ARGV[1] == 'all' then
  return {KEY, now, redis.call('ZRANGE', KEY, ARGV[2], ARGV[2] + ARGV[3] - 1, 'WITHSCORES'), was_occupied}
elseif ARGV[1] == 'some' then
  return {KEY, now, redis.call('ZRANDMEMBER', KEY, ARGV[3], 'WITHSCORES'), was_occupied}
end

local instant = tonumber(ARGV[2])
if not instant then
  -- After a failover, the clock may be behind that of the server that wrote the scores.
  instant = math.max(now, latest())
end
local spared = {}
for i = 4, #ARGV do spared[ARGV[i]] = true end
local limit = tonumber(ARGV[3]) + #ARGV - 3
local found = redis.call(
  'ZRANGEBYSCORE', KEY, '-inf', instant, 'WITHSCORES', 'LIMIT', 0, limit)
for _, part in ipairs(redis.call('ZRANGEBYSCORE', KEY, '(' .. LAST, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)) do
  table.insert(found, part)
end
local page = {}
for i = 1, #found, 2 do
  if not spared[found[i]] then
    table.insert(page, found[i])
    table.insert(page, found[i + 1])
  end
end
return {KEY, instant, page, was_occupied}
