-- Make a session under a key that nobody uses yet.
-- KEYS: session. ARGV: idle, absolute or '', 1 if the idle is not the store's (else 0), the user who logs in
-- or '', names and values. Answers {key, expires, now}.
if redis.call('EXISTS', KEY) == 1 then return {KEY, TAKEN} end

local idle, absolute = tonumber(ARGV[1]), tonumber(ARGV[2])
local deadline = absolute and now + absolute
-- Everything in one step, because Redis Search indexes a session anew after each. No '@seen' yet: it would
-- only repeat '@created'.
local parts = {'@v', '1', '@created', now}
local function put(...)
  for _, part in ipairs({...}) do table.insert(parts, part) end
end
if deadline then put('@deadline', deadline) end
if ARGV[3] == '1' then put('@idle', idle) end
if ARGV[4] ~= '' then put('@user', ARGV[4], '@auth', now) end
for i = 5, #ARGV do table.insert(parts, ARGV[i]) end
write(KEY, parts, 1, #parts)

local expires = expiry(idle, deadline)
local done = redis.pcall('PEXPIREAT', KEY, expires)
if done ~= 1 then
  -- A session without a TTL must never stay, whatever the reason (a missing permission, say).
  redis.call('DEL', KEY)
  return done
end
return {KEY, expires, now}
