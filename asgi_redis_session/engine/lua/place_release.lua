-- Give places back, each only if it is still as it was seen: a login that was confirmed meanwhile stays listed.
-- KEYS: index. ARGV: handle, score (or '' for any), handle, score, ...
-- Answers {key, how many}.
local released = 0
for i = 1, #ARGV, 2 do
  local score = redis.call('ZSCORE', KEY, ARGV[i])
  if score and (ARGV[i + 1] == '' or score == ARGV[i + 1]) then
    released = released + redis.call('ZREM', KEY, ARGV[i])
  end
end
return {KEY, released}
