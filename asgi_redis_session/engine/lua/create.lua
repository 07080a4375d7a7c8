-- Create a session under a new key.
-- KEYS: session.
-- ARGV: idle, absolute or '', the user who logs in or '', then names and values.
-- Answers {key, expires (once it is confirmed), now}, or TAKEN.
if redis.call('EXISTS', KEY) == 1 then return {KEY, TAKEN} end

local idle, absolute = tonumber(ARGV[1]), tonumber(ARGV[2])
local deadline = absolute and now + absolute
-- One HSET, because Redis Search indexes a session again after each. No @seen yet: it would only repeat
-- @created. @idle is always there, so that a process with another lifetime reads this session right.
local parts = {'@v', '1', '@created', now}
local function put(...)
  for _, part in ipairs({...}) do table.insert(parts, part) end
end
if deadline then put('@deadline', deadline) end
put('@idle', idle)
if ARGV[3] ~= '' then put('@user', ARGV[3], '@auth', now) end
if ARGV[4] == '@claims' then ARGV[5] = now .. ' ' .. ARGV[5] end  -- those of this login: see claims.py
for i = 4, #ARGV do table.insert(parts, ARGV[i]) end
write(KEY, parts, 1, #parts)

local expires = expiry(idle, deadline)
local done = redis.pcall('PEXPIREAT', KEY, until_confirmed(expires))
if done ~= 1 then
  -- A session without a TTL must never remain, even if a permission is missing.
  redis.call('DEL', KEY)
  return done
end
return {KEY, expires, now}
