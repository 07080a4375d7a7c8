-- Log in on a session that exists: move it to a new key, with a new beginning.
-- KEYS: session, its new key. ARGV: the store's idle, the login's idle, absolute or '', 1 if that idle is
-- not the store's (else 0), the user, the number of ARGVs that are names and values, those, names to
-- remove. Answers {key, expires, now}, or FOREIGN if the session is another user's.
local FOREIGN = -3
local idle, deadline = alive(KEY, ARGV[1])
if not idle then return {KEY, deadline} end
if redis.call('EXISTS', KEYS[2]) == 1 then return {KEY, TAKEN} end
local user = redis.call('HGET', KEY, '@user')
if user and user ~= ARGV[5] then return {KEY, FOREIGN} end

idle, deadline = tonumber(ARGV[2]), tonumber(ARGV[3])
if deadline then deadline = now + deadline end
redis.call('HSET', KEY, '@user', ARGV[5], '@auth', now, '@created', now, '@seen', now)
if deadline then redis.call('HSET', KEY, '@deadline', deadline) end
if ARGV[4] == '1' then redis.call('HSET', KEY, '@idle', idle) end
local last = 6 + tonumber(ARGV[6])
write(KEY, ARGV, 7, last)
for i = last + 1, #ARGV do redis.call('HDEL', KEY, ARGV[i]) end
if not deadline then redis.call('HDEL', KEY, '@deadline') end
if ARGV[4] ~= '1' then redis.call('HDEL', KEY, '@idle') end

local expires = expiry(idle, deadline)
redis.call('PEXPIREAT', KEY, expires)
redis.call('RENAME', KEY, KEYS[2])
return {KEY, expires, now}
