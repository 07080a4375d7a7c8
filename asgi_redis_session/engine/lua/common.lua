-- Put in front of every script on a session's hash.
-- Times are milliseconds of the Redis clock since 1970; idle and absolute are lengths in milliseconds.
-- Every script answers {key, state, ...}. A state above 0 means that it worked; mostly it is the instant at
-- which the session expires. Otherwise:
--   GONE     no such session: it has ended, or it has expired
--   CORRUPT  there is something under the key that this library does not read
--   TAKEN    there is a session under the new key already
--   FOREIGN  the session belongs to another user
--   FULL     the session has as many fields as allowed
--   CHANGED  another request has changed the session since it was read
--   FREE     there is no session, and there was none
--   LARGE    the field would hold more bytes than allowed
local GONE, CORRUPT, TAKEN, FOREIGN, FULL, CHANGED, FREE, LARGE = 0, -1, -2, -3, -4, -5, -6, -7
local KEY = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A number of milliseconds; nil for anything else.
local function ms(text)
  return text and #text <= 14 and string.match(text, '^%d+$') and tonumber(text)
end

-- Whether the session has, or had, fields with a TTL: `alive` notes it.
local is_timed

-- Returns idle, deadline (nil if none) and the raw @created, @auth and @seen, which are not checked here:
-- ending a session must work even if they are damaged. If there is no usable session: nil and GONE or CORRUPT.
local function alive(key, store_idle)
  local meta = redis.pcall('HMGET', key, '@v', '@deadline', '@idle', '@created', '@auth', '@seen', '@timed')
  if meta.err then
    if string.find(meta.err, 'WRONGTYPE', 1, true) then return nil, CORRUPT end
    redis.call('HMGET', key, '@v')  -- another error, such as a missing permission: raise it
  end
  if meta[1] ~= '1' then
    if redis.call('EXISTS', key) == 0 then return nil, GONE end
    return nil, CORRUPT
  end
  is_timed = meta[7]
  local deadline, idle = ms(meta[2]), ms(meta[3] or store_idle)
  if (meta[2] and not deadline) or not idle or idle == 0 then return nil, CORRUPT end
  if deadline and deadline <= now then
    redis.call('DEL', key)
    return nil, GONE
  end
  return idle, deadline, {meta[4], meta[5], meta[6]}
end

-- The name under which the hash holds a field: '@=name' if it has a TTL that has not ended.
local function field_of(key, name)
  if not is_timed or redis.call('HEXISTS', key, name) == 1 then return name end
  local ends = ms(redis.call('HGET', key, '@-' .. name))
  return ends and ends > now and '@=' .. name or name
end

-- When a session that is used now expires.
local function expiry(idle, deadline)
  if deadline and deadline < now + idle then return deadline end
  return now + idle
end

-- For how long it lives until its place is confirmed: unlisted.lua sets it.
local unconfirmed
local function until_confirmed(expires)
  return unconfirmed and math.min(expires, now + unconfirmed) or expires
end

-- When it expires by its current TTL; -1 if it has none. In its last millisecond PTTL is 0.
local function current_expiry(key)
  local ttl = redis.call('PTTL', key)
  return ttl >= 0 and now + ttl or -1
end

-- Note that a session's key is gone, and why: a tombstone, a sorted set with the kind as its only member, scored by the
-- instant. It is kept for *lasts* milliseconds. If the server refuses it, the script goes on: the session is gone.
-- *note*: the reason in the caller's own words, or nil: a second member, right after the kind.
local function bury(tombstone, kind, lasts, note)
  local parts = {now, kind}
  if note then parts = {now, kind, now + 1, '=' .. note} end
  if redis.pcall('ZADD', tombstone, unpack(parts)) == #parts / 2 and redis.pcall('PEXPIREAT', tombstone, now + lasts) ~= 1 then
    redis.pcall('DEL', tombstone)
  end
end
local minute = 60000

-- Publish that a session has ended, on its channel, if there are sockets and streams that wait for it (push=True). It is
-- a hint, so what the server refuses is ignored. Sharded channels belong to a slot, which only a Cluster has; before
-- Redis 7 there are none.
local function announce(channel, kind, is_sharded)
  if not channel then return end
  if is_sharded and type(redis.pcall('SPUBLISH', channel, kind)) == 'number' then return end
  redis.pcall('PUBLISH', channel, kind)
end

-- Raise what the server may refuse, before anything is changed: HSET if it is full, and the others if a permission is
-- missing. HSET comes first, because after another write Redis no longer looks whether it is full.
local function probe(key, expires, moves)
  redis.call('HSET', key, '@v', '1')  -- as it is
  redis.call('HDEL', key, '@')  -- no such field
  local current = current_expiry(key)
  -- An instant that is not in the future would delete it.
  redis.call('PEXPIREAT', key, current > 0 and math.max(current, now + 1) or expires)
  if moves then redis.call('RENAME', key, key) end
end

-- Move the expiry. If only that is refused, the session keeps the one that it has; returns the one it has then.
local function extend(key, current, expires)
  if redis.pcall('PEXPIREAT', key, expires) == 1 then return expires end
  if current > 0 then return current end
  redis.call('PEXPIREAT', key, expires)  -- raises why
end

-- Whether the session has as many fields as allowed, so that this one would be one too many.
local function is_one_too_many(key, name, most)
  if redis.call('HLEN', key) < most or redis.call('HEXISTS', key, name) == 1 then return false end
  local fields = 0
  for _, held in ipairs(redis.call('HKEYS', key)) do
    if string.sub(held, 1, 1) ~= '@' or string.sub(held, 1, 2) == '@=' then fields = fields + 1 end
  end
  return fields >= most
end

-- HSET of parts[first..last], in steps small enough for Lua's unpack.
-- Fields with a TTL come last: how long each lasts, which becomes the instant at which it ends, then '@timed' and '+',
-- with how many they are. What is stored of '@timed' is only that it is there.
local function write(key, parts, first, last)
  local timed = parts[last - 1] == '@timed' and string.match(parts[last], '^%+(%d+)$')
  if timed then
    for i = last - 2 * timed, last - 2, 2 do parts[i] = now + parts[i] end
    parts[last] = '1'
  end
  for from = first, last, 4000 do
    redis.call('HSET', key, unpack(parts, from, math.min(from + 3999, last)))
  end
end
