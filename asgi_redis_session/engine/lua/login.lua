-- Log in on a session that exists: move it to a new key, with a new beginning.
-- KEYS: session[, its new key, the session's tombstone[, its channel]].
-- ARGV: the store's idle, the login's idle, absolute or '', the user, how many of the next ARGV are names and
-- values, those, then names to remove.
-- Answers {key, expires (once it is confirmed), now}, or FOREIGN.
local idle, deadline = alive(KEY, ARGV[1])
if not idle then return {KEY, deadline} end
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then return {KEY, TAKEN} end
local user = redis.call('HGET', KEY, '@user')
if user and user ~= ARGV[4] then return {KEY, FOREIGN} end

idle, deadline = tonumber(ARGV[2]), tonumber(ARGV[3])
if deadline then deadline = now + deadline end
local expires = expiry(idle, deadline)
probe(KEY, expires, KEYS[2])
-- The old key goes first: if the server refuses a later command, the old id has not become the user's.
redis.call('HSET', KEY, '@seen', now)
local key = KEYS[2] or KEY
if KEYS[2] then
  redis.call('RENAME', KEY, key)
  bury(KEYS[3], 'replaced', minute)
  announce(KEYS[4], 'replaced')
end
local last = 5 + tonumber(ARGV[5])
for i = last + 1, #ARGV do redis.call('HDEL', key, ARGV[i]) end
if not deadline then redis.call('HDEL', key, '@deadline') end
redis.call('HSET', key, '@user', ARGV[4], '@auth', now, '@created', now, '@idle', idle)
if deadline then redis.call('HSET', key, '@deadline', deadline) end
-- Claims are those of this login: see claims.py.
if ARGV[6] == '@claims' then ARGV[7] = now .. ' ' .. ARGV[7] end
write(key, ARGV, 6, last)
redis.call('PEXPIREAT', key, until_confirmed(expires))
return {KEY, expires, now}
