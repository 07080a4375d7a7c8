-- Make a session under a key that nobody uses yet.
-- KEYS: session. ARGV: idle, absolute or '', 1 if the idle is not the store's (else 0), the user who logs in
-- or '', names and values. Answers {key, expires, now}.
if redis.call('EXISTS', KEY) == 1 then return {KEY, TAKEN} end

local idle, absolute = tonumber(ARGV[1]), tonumber(ARGV[2])
local deadline = absolute and now + absolute
-- No '@seen' yet: it would only repeat '@created'.
redis.call('HSET', KEY, '@v', '1', '@created', now)
if deadline then redis.call('HSET', KEY, '@deadline', deadline) end
if ARGV[3] == '1' then redis.call('HSET', KEY, '@idle', idle) end
if ARGV[4] ~= '' then redis.call('HSET', KEY, '@user', ARGV[4], '@auth', now) end
write(KEY, 5, #ARGV)

local expires = expiry(idle, deadline)
local done = redis.pcall('PEXPIREAT', KEY, expires)
if done ~= 1 then
  -- A session without a TTL must never stay, whatever the reason (a missing permission, say).
  redis.call('DEL', KEY)
  return done
end
return {KEY, expires, now}
