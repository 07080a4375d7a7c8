-- Note that a user logs in from a kind of device, and say whether it is known.
-- KEYS: the user's devices. ARGV: the kind, for how long it is remembered, how many are.
-- Answers {key, 1 if it is known or 0, how many others are}. A sorted set: kinds by their last login.
local others, is_known, oldest = 0, 0, nil
local held = redis.call('ZRANGE', KEY, 0, -1, 'WITHSCORES')
for i = 1, #held, 2 do
  if tonumber(held[i + 1]) <= now - ARGV[2] then
    redis.call('ZREM', KEY, held[i])
  elseif held[i] == ARGV[1] then
    is_known = 1
  else
    others, oldest = others + 1, oldest or held[i]
  end
end
if is_known == 0 and others >= tonumber(ARGV[3]) then redis.call('ZREM', KEY, oldest) end
redis.call('ZADD', KEY, now, ARGV[1])
local done = redis.pcall('PEXPIREAT', KEY, now + ARGV[2])
if done ~= 1 then
  -- A key without a TTL must never remain, even if a permission is missing.
  redis.call('DEL', KEY)
  return done
end
return {KEY, is_known, others}
