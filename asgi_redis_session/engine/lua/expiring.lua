-- A key that expires at once, to see whether the server reports it.
-- KEYS: key. ARGV: 1 to make it (else 0). Answers {key, 1 if it is there (else 0)}.
if ARGV[1] == '1' then
  redis.call('ZADD', KEY, now, 'proof')
  if redis.pcall('PEXPIREAT', KEY, now + 1) ~= 1 then redis.call('DEL', KEY) end
end
return {KEY, redis.call('EXISTS', KEY)}
