-- Put in front of every script on a user's index: a sorted set of handles, called places, scored by the time of login
-- in milliseconds of the Redis clock. A negative score marks a place that is only reserved: the hash of its session
-- may not be written yet. Every script answers {key, ...}.
local KEY = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- If another program has put something else under this key, it is removed and reported, so that the user can still log in.
local was_occupied = 0
local size = redis.pcall('ZCARD', KEY)
if type(size) == 'table' and string.find(size.err, 'WRONGTYPE', 1, true) then
  redis.call('DEL', KEY)
  was_occupied = 1
end

-- The latest possible time of login, in milliseconds. A larger score was written by another program, and is ignored.
local LAST = 99999999999999

-- The latest time of login; 0 if there is none.
local function latest()
  local last = redis.call('ZREVRANGE', KEY, 0, 0, 'WITHSCORES')
  if last[2] and tonumber(last[2]) > LAST then
    last = redis.call('ZREVRANGEBYSCORE', KEY, LAST, 0, 'WITHSCORES', 'LIMIT', 0, 1)
  end
  return tonumber(last[2] or 0)
end

-- A time of login after that of all other places. All logins that make room must see the same order, whether a place
-- was confirmed meanwhile or not: otherwise two of them could end two sessions where one is enough. After a failover
-- the clock may be behind.
local function next_instant()
  local reserved = redis.call('ZRANGEBYSCORE', KEY, -LAST, 0, 'WITHSCORES', 'LIMIT', 0, 1)[2] or 0
  return math.max(now, math.abs(latest()) + 1, math.abs(tonumber(reserved)) + 1)
end

-- Add a place, and let the index live at least as long as the session may.
local function add(handle, score, lifetime)
  local ttl = redis.call('PTTL', KEY)
  redis.call('ZADD', KEY, score, handle)
  if ttl < lifetime then
    local done = redis.pcall('PEXPIREAT', KEY, now + lifetime)
    if done ~= 1 then
      -- An index without a TTL must never remain, even if a permission is missing.
      redis.call('ZREM', KEY, handle)
      return done
    end
  end
end
