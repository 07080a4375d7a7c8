-- Log in on a session that exists: move it to a new key, with a new beginning.
-- KEYS: session[, its new key]. ARGV: the store's idle, the login's idle, absolute or '', 1 if that idle is
-- not the store's (else 0), the user, the number of ARGVs that are names and values, those, names to
-- remove. Answers {key, expires, now}, or FOREIGN if the session is another user's.
local FOREIGN = -3
local idle, deadline = alive(KEY, ARGV[1])
if not idle then return {KEY, deadline} end
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then return {KEY, TAKEN} end
local user = redis.call('HGET', KEY, '@user')
if user and user ~= ARGV[5] then return {KEY, FOREIGN} end

idle, deadline = tonumber(ARGV[2]), tonumber(ARGV[3])
if deadline then deadline = now + deadline end
-- The old key is left first: whatever the server refuses afterwards, an old id never becomes a user's.
redis.call('HSET', KEY, '@seen', now)
local key = KEYS[2] or KEY
if KEYS[2] then redis.call('RENAME', KEY, key) end
local last = 6 + tonumber(ARGV[6])
for i = last + 1, #ARGV do redis.call('HDEL', key, ARGV[i]) end
if not deadline then redis.call('HDEL', key, '@deadline') end
if ARGV[4] ~= '1' then redis.call('HDEL', key, '@idle') end
redis.call('HSET', key, '@user', ARGV[5], '@auth', now, '@created', now)
if deadline then redis.call('HSET', key, '@deadline', deadline) end
if ARGV[4] == '1' then redis.call('HSET', key, '@idle', idle) end
write(key, ARGV, 7, last)

local expires = expiry(idle, deadline)
redis.call('PEXPIREAT', key, expires)
return {KEY, expires, now}
