-- Read a session and slide its TTL.
-- KEYS: session. ARGV: the store's idle, refresh_after (negative: don't slide), what to read
-- ('all', 'some', 'none'), and for 'some' the field names.
-- Answers {key, expires, now, fields}: 'all' as HGETALL does, 'some' as HMGET does.
local idle, deadline, instants = alive(KEY, ARGV[1])
if not idle then return {KEY, deadline} end
for i = 1, 3 do
  if instants[i] and not ms(instants[i]) then return {KEY, CORRUPT} end
end

local fields = {}
if ARGV[3] == 'all' then
  fields = redis.call('HGETALL', KEY)
elseif ARGV[3] == 'some' then
  fields = redis.call('HMGET', KEY, unpack(ARGV, 4))
end

local refresh_after = tonumber(ARGV[2])
local expires = expiry(idle, deadline)
if refresh_after ~= 0 then
  local current = current_expiry(KEY)
  if refresh_after < 0 or (current > 0 and expires - current < refresh_after) then
    return {KEY, current > 0 and current or expires, now, fields}
  end
end
-- A server that refuses writes (out of memory, read-only) may still be read.
if redis.pcall('PEXPIREAT', KEY, expires) ~= 1 then
  local current = current_expiry(KEY)
  expires = current > 0 and current or expires
end
return {KEY, expires, now, fields}
