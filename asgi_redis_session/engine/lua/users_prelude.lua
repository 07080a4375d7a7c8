-- Stands before every script on a user's index: a sorted set of handles ("places"), scored by the
-- time of login in milliseconds of the Redis clock. A negative score marks a place that was taken for
-- a session whose hash is not known to be written yet. Every script answers {KEYS[1], ...}.
local KEY = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A time of login after that of all other places: everybody who makes room must see the same order,
-- whether a place was confirmed meanwhile or not, or two of them would end two sessions for one. A
-- server that took over may have an earlier clock.
local function next_instant()
  local held = redis.call('ZREVRANGE', KEY, 0, 0, 'WITHSCORES')[2] or 0
  local taken = redis.call('ZRANGE', KEY, 0, 0, 'WITHSCORES')[2] or 0
  return math.max(now, math.abs(tonumber(held)) + 1, math.abs(tonumber(taken)) + 1)
end

-- Add a place, and let the set live at least as long as the session may.
local function add(handle, score, lifetime)
  local ttl = redis.call('PTTL', KEY)
  redis.call('ZADD', KEY, score, handle)
  if ttl < lifetime then
    local done = redis.pcall('PEXPIREAT', KEY, now + lifetime)
    if done ~= 1 then
      -- A set without a TTL must never stay, whatever the reason (a missing permission, say).
      redis.call('ZREM', KEY, handle)
      return done
    end
  end
end
