-- Replace the value of a field, if it is still the one that was read.
-- KEYS: session.
-- ARGV: the store's idle, whether to extend the TTL (1 or 0), the field ('@=name' if it has a TTL), whether it existed (1 or 0), its bytes then, how many
-- fields are allowed, how many of the next ARGV are names and values, those, then names to remove.
-- Answers {key, expires, now}, or {key, CHANGED, now, its bytes or nothing, the field as it is now}.
local idle, deadline = alive(KEY, ARGV[1])
if not idle then return {KEY, deadline} end
local field = field_of(KEY, (string.gsub(ARGV[3], '^@=', '')))
local held = redis.call('HGET', KEY, field)
if field ~= ARGV[3] or held ~= (ARGV[4] == '1' and ARGV[5]) then return {KEY, CHANGED, now, held, field} end

if not held and is_one_too_many(KEY, ARGV[3], tonumber(ARGV[6])) then return {KEY, FULL} end
local last = 7 + tonumber(ARGV[7])
ARGV[6], ARGV[7] = '@seen', now
write(KEY, ARGV, 6, last)
for i = last + 1, #ARGV do redis.call('HDEL', KEY, ARGV[i]) end
local expires = current_expiry(KEY)
if ARGV[2] == '1' or expires < 0 then
  expires = expiry(idle, deadline)
  redis.call('PEXPIREAT', KEY, expires)
end
return {KEY, expires, now}
