-- Add to an integer field of a session that exists.
-- KEYS: session.
-- ARGV: the store's idle, whether to extend the TTL (1 or 0), name, amount, how many fields are allowed, the shadow
-- of the field or '', the largest number that the index can hold or ''.
-- Answers {key, expires, now, digits}, or FULL if the field would be one too many. No digits: the field holds no
-- integer, or the sum would overflow.
local idle, deadline = alive(KEY, ARGV[1])
if not idle then return {KEY, deadline} end

local field = field_of(KEY, ARGV[3])
if is_one_too_many(KEY, field, tonumber(ARGV[5])) then return {KEY, FULL} end
local largest, current = tonumber(ARGV[7]), current_expiry(KEY)
local held = tonumber(redis.call('HGET', KEY, field) or 0)
if largest and held and math.abs(held + ARGV[4]) > largest then return {KEY, current, now} end
-- What may be refused after the sum: of HINCRBY and HGET it is known then.
if ARGV[6] ~= '' then redis.call('HSET', KEY, '@v', '1') end
local sum = redis.pcall('HINCRBY', KEY, field, ARGV[4])
if type(sum) == 'table' and sum.err then
  if string.find(sum.err, 'not an integer') or string.find(sum.err, 'overflow') then
    return {KEY, current, now}
  end
  return sum
end
-- As text, because Lua's numbers are exact up to 2^53 only.
local digits = redis.call('HGET', KEY, field)
if ARGV[6] ~= '' then redis.call('HSET', KEY, ARGV[6], digits) end
local expires = current
if ARGV[2] == '1' or current < 0 then expires = extend(KEY, current, expiry(idle, deadline)) end
return {KEY, expires, now, digits}
