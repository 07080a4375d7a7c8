-- Find the place of one session.
-- KEYS: index. ARGV: handle.
-- Answers {key, {handle, score}} or {key, {}}.
local score = redis.call('ZSCORE', KEY, ARGV[1])
return {KEY, score and {ARGV[1], score} or {}}
