-- Read a session and extend its TTL.
-- KEYS: session.
-- ARGV: the store's idle, refresh_after (negative: leave the TTL alone), what to read ('all', 'some', 'raw',
-- 'none'), and for 'some' and 'raw' the names of the fields: 'raw' does not look for those with a TTL.
-- Answers {key, expires, now, fields, timed}: 'all' as HGETALL answers, the others as HMGET does; *timed* are the names
-- of those that have a TTL.
local idle, deadline, instants = alive(KEY, ARGV[1])
if not idle then return {KEY, deadline} end
for i = 1, 3 do
  if instants[i] and not ms(instants[i]) then return {KEY, CORRUPT} end
end

local fields, timed = {}, {}
if ARGV[3] == 'all' then
  fields = redis.call('HGETALL', KEY)
elseif ARGV[3] ~= 'none' then
  fields = redis.call('HMGET', KEY, unpack(ARGV, 4))
  for i = 4, is_timed and ARGV[3] == 'some' and #ARGV or 0 do
    local field = field_of(KEY, ARGV[i])
    if field ~= ARGV[i] then
      fields[i - 3] = redis.call('HGET', KEY, field)
      table.insert(timed, ARGV[i])
    end
  end
end

local refresh_after, store_idle = tonumber(ARGV[2]), tonumber(ARGV[1])
if refresh_after > 0 and idle < store_idle then
  -- The throttle is the store's. For a session with a shorter idle time it shrinks in proportion: otherwise
  -- the session could end while it is in use.
  refresh_after = math.floor(refresh_after * idle / store_idle)
end
local expires = expiry(idle, deadline)
if refresh_after ~= 0 then
  local current = current_expiry(KEY)
  -- A TTL that is too long is mended: the idle time was shortened, and another request has extended it since.
  local is_right = current > 0 and current <= expires
  if is_right and (refresh_after < 0 or expires - current < refresh_after) then
    return {KEY, current, now, fields, timed}
  end
end
-- A server that refuses writes (out of memory, read-only) may still be read.
if redis.pcall('PEXPIREAT', KEY, expires) ~= 1 then
  local current = current_expiry(KEY)
  expires = current > 0 and current or expires
end
return {KEY, expires, now, fields, timed}
