-- In a Cluster, the first half of a move to another key: take the session from its old one. Only one caller
-- can get it.
-- KEYS: session.
-- ARGV: the store's idle, the user who logs in, or '' for a renewal.
-- Answers {key, expires, now, the packed session for restore.lua}, or FOREIGN.
local idle, state = alive(KEY, ARGV[1])
if not idle then return {KEY, state} end
local user = redis.call('HGET', KEY, '@user')
if ARGV[2] ~= '' and user and user ~= ARGV[2] then return {KEY, FOREIGN} end

-- What the second half may be refused, this one is refused as well: then the session stays where it is. Users have
-- the same permissions on all nodes, as a rule.
redis.call('EXISTS', KEY)
probe(KEY, now + idle)
local fields, expires = redis.call('HGETALL', KEY), current_expiry(KEY)
redis.call('DEL', KEY)
return {KEY, expires, now, cmsgpack.pack(expires, fields)}
