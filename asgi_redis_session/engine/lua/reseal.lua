-- Put in front of what moves an encrypted session to another key: its values are encrypted again for that key, so they
-- must still be as they were read.
-- KEYS: session.
-- ARGV: how many values were read, the name and the bytes of each; then the arguments of the script that follows.
-- Answers {key, CHANGED, now, names and values of all fields} if one was written or removed meanwhile, or goes on.
do
  local held = redis.pcall('HGETALL', KEY)
  local left, last = tonumber(ARGV[1]), 1 + 2 * tonumber(ARGV[1])
  local read = {}
  for i = 2, last, 2 do read[ARGV[i]] = ARGV[i + 1] end
  for i = 1, #held, 2 do  -- nothing if it is no hash: the script that follows looks what it is
    local name, raw = held[i], held[i + 1]
    if read[name] == raw then
      left = left - 1
    elseif read[name] or string.byte(raw) == 254 then  -- 254: it is encrypted
      return {KEY, CHANGED, now, held}
    end
  end
  if left > 0 and #held > 0 then return {KEY, CHANGED, now, held} end
  for i = 1, #ARGV do ARGV[i] = ARGV[i + last] end
end
