-- Read the session of another library: a string, or one field of a hash.
-- KEYS: its key. ARGV: the field, or '' for a string.
-- Answers {key, its bytes}, or {key} if there is none.
local raw
if ARGV[1] == '' then
  raw = redis.pcall('GET', KEYS[1])
else
  raw = redis.pcall('HGET', KEYS[1], ARGV[1])
end
if type(raw) == 'table' then
  if string.find(raw.err, 'WRONGTYPE', 1, true) then return {KEYS[1]} end
  return raw
end
return raw and {KEYS[1], raw} or {KEYS[1]}
