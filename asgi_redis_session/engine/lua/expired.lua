-- Note that a session has expired, for the first process that reports it.
-- KEYS: its tombstone. ARGV: how long that is remembered.
-- Answers {key, 1}, or 0 if another process was first, or the server refuses the note.
if redis.call('EXISTS', KEY) == 1 then return {KEY, 0} end
bury(KEY, 'expired', ARGV[1])
return {KEY, redis.call('EXISTS', KEY)}
