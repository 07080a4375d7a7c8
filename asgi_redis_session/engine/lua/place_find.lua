-- Find the place of one session.
-- KEYS: index. ARGV: handle.
-- Answers {key, {handle, score} or {}, 1 if there was something else than an index}.
local score = redis.call('ZSCORE', KEY, ARGV[1])
return {KEY, score and {ARGV[1], score} or {}, was_occupied}
