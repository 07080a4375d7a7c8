-- Remove fields whose TTL has ended, or that were written without one since.
-- KEYS: session. ARGV: the store's idle, then the fields' names.
-- Answers {key, 1}.
local idle, state = alive(KEY, ARGV[1])
if not idle then return {KEY, state} end
for i = 2, #ARGV do
  if field_of(KEY, ARGV[i]) == ARGV[i] then redis.call('HDEL', KEY, '@=' .. ARGV[i], '@-' .. ARGV[i]) end
end
return {KEY, 1}
