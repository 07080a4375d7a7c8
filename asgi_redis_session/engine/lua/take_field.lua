-- Read a field, and remove it: of several callers, one gets it.
-- KEYS: session. ARGV: the store's idle, the field, its shadow or ''.
-- Answers {key, 1, now, its bytes, the field ('@=name' if it had a TTL)}, without the last two if there is no such field.
local idle, state = alive(KEY, ARGV[1])
if not idle then return {KEY, state} end
local field = field_of(KEY, ARGV[2])
local held = redis.call('HGET', KEY, field)
if not held then return {KEY, 1, now} end
redis.call('HDEL', KEY, ARGV[2])
if is_timed then redis.call('HDEL', KEY, '@=' .. ARGV[2], '@-' .. ARGV[2]) end
if ARGV[3] ~= '' then redis.call('HDEL', KEY, ARGV[3]) end
return {KEY, 1, now, held, field}
