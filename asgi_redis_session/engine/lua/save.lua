-- Write what a request changed, if the session still exists. With a second key, move it there. Most commits need less,
-- and are made by commit.lua.
-- KEYS: session[, its new key, the session's tombstone[, its channel]].
-- ARGV: the store's idle, whether to extend the TTL (1 or 0), a shorter idle or '', an earlier deadline or '',
-- how many of the next ARGV are names and values, those, then names to remove.
-- Answers {key, expires, now, idle, deadline or 0}.
local idle, deadline = alive(KEY, ARGV[1])
if not idle then return {KEY, deadline} end
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then return {KEY, TAKEN} end

local shorter, earlier = tonumber(ARGV[3]), tonumber(ARGV[4])
local shortens = shorter and shorter < idle
if shortens then idle = shorter end
local hastens = earlier and (not deadline or earlier < deadline)
if hastens then deadline = earlier end
local expires, current = expiry(idle, deadline), current_expiry(KEY)
if expires <= now then
  redis.call('DEL', KEY)
  return {KEY, GONE}
end

-- A plain commit is one HSET. What takes more is probed first, so that nothing is left half done.
local last = 5 + tonumber(ARGV[5])
if last < #ARGV or shortens or hastens or KEYS[2] then probe(KEY, expires, KEYS[2]) end
for i = last + 1, #ARGV do redis.call('HDEL', KEY, ARGV[i]) end
if shortens then redis.call('HSET', KEY, '@idle', idle) end
if hastens then redis.call('HSET', KEY, '@deadline', deadline) end
-- @seen goes into the same HSET as the fields, because Redis Search indexes a session again after each.
ARGV[4], ARGV[5] = '@seen', now
write(KEY, ARGV, 4, last)

if ARGV[2] == '1' or current < 0 or current > expires then
  expires = extend(KEY, current, expires)
else
  expires = current
end
if unconfirmed then redis.call('PEXPIREAT', KEY, until_confirmed(expires)) end
if KEYS[2] then
  redis.call('RENAME', KEY, KEYS[2])
  bury(KEYS[3], 'replaced', minute)
  announce(KEYS[4], 'replaced')
end
return {KEY, expires, now, idle, deadline or 0}
