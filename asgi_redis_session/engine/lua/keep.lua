-- In a Cluster: the place of a session is confirmed, so it lives as long as it should. On one node place_confirm.lua does
-- that.
-- KEYS: session. ARGV: when it expires.
-- Answers {key, 1}, or GONE.
return {KEYS[1], redis.call('PEXPIREAT', KEYS[1], ARGV[1])}
