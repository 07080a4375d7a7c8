-- Stands before every script. Times are milliseconds of the Redis clock since 1970; idle and
-- absolute are lengths in milliseconds. Every script answers {KEYS[1], state, ...}, where state is
-- the instant at which the session expires, or one of these:
local GONE, CORRUPT, TAKEN = 0, -1, -2
local KEY = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A count of milliseconds; nil for anything else.
local function ms(text)
  return text and #text <= 14 and string.match(text, '^%d+$') and tonumber(text)
end

-- The session's idle time, its deadline (nil: none), and its other instants as they stand there (false:
-- none), which nobody needs to end it; or nil and the state to answer.
local function alive(key, store_idle)
  local meta = redis.pcall('HMGET', key, '@v', '@deadline', '@idle', '@created', '@auth', '@seen')
  if meta.err then
    if string.find(meta.err, 'WRONGTYPE', 1, true) then return nil, CORRUPT end
    redis.call('HMGET', key, '@v')  -- a missing permission, say: raised as it is
  end
  if meta[1] ~= '1' then
    if redis.call('EXISTS', key) == 0 then return nil, GONE end
    return nil, CORRUPT
  end
  local deadline, idle = ms(meta[2]), ms(meta[3] or store_idle)
  if (meta[2] and not deadline) or not idle or idle == 0 then return nil, CORRUPT end
  if deadline and deadline <= now then
    redis.call('DEL', key)
    return nil, GONE
  end
  return idle, deadline, {meta[4], meta[5], meta[6]}
end

-- When a session that is used now would expire.
local function expiry(idle, deadline)
  if deadline and deadline < now + idle then return deadline end
  return now + idle
end

-- When it will expire as things are.
local function current_expiry(key)
  local ttl = redis.call('PTTL', key)
  return ttl > 0 and now + ttl or -1
end

-- HSET of parts[first..last], in steps that Lua's unpack can carry.
local function write(key, parts, first, last)
  for from = first, last, 4000 do
    redis.call('HSET', key, unpack(parts, from, math.min(from + 3999, last)))
  end
end
