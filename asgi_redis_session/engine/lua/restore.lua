-- In a Cluster, the second half of a move: put what take.lua took under its new key. Stands before save.lua
-- and login.lua, which then find the session there.
-- KEYS: its new key. ARGV: the session, and what follows is theirs. Answers {key, TAKEN}, or goes on.
if redis.call('EXISTS', KEY) == 1 then return {KEY, TAKEN} end
do
  local expires, fields = cmsgpack.unpack(table.remove(ARGV, 1))
  write(KEY, fields, 1, #fields)
  local done = redis.pcall('PEXPIREAT', KEY, expires)
  if done ~= 1 then
    -- A session without a TTL must never stay, whatever the reason.
    redis.call('DEL', KEY)
    return type(done) == 'table' and done or {KEY, GONE}
  end
end
