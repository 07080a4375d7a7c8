-- Write fields into a session that exists, if those that they are made from are still as they were read: shadows, and
-- values in another form.
-- KEYS: session.
-- ARGV: the store's idle; how many fields were read, and for each: name, 1 if it exists (else 0), its bytes; how
-- many of the next ARGV are names and values, those, then names to remove.
-- Answers {key, 1}, or CHANGED. The TTL stays as it is: this does not count as use.
local idle, state = alive(KEY, ARGV[1])
if not idle then return {KEY, state} end

local at = 3 + 3 * tonumber(ARGV[2])
for i = 3, at - 1, 3 do
  local held = redis.call('HGET', KEY, ARGV[i])
  if held ~= (ARGV[i + 1] == '1' and ARGV[i + 2]) then return {KEY, CHANGED} end
end
local last = at + tonumber(ARGV[at])
write(KEY, ARGV, at + 1, last)
for i = last + 1, #ARGV do redis.call('HDEL', KEY, ARGV[i]) end
return {KEY, 1}
