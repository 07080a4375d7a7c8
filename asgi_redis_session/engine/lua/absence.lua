-- Say why there is no session.
-- KEYS: its tombstone[, its key].
-- Answers {tombstone, now, 1 if there is something under the key that is no session (else 0), kind, since, note}; without
-- the last three if there is no tombstone, and without the last one if it has none.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.pcall('ZRANGE', KEYS[1], 0, 1, 'WITHSCORES')
local exists = KEYS[2] and redis.pcall('EXISTS', KEYS[2])
-- A server that refuses this leaves it unknown.
return {KEYS[1], now, exists == 1 and 1 or 0, found[1], found[2], found[3]}
