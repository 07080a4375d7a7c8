-- In a Cluster, the second half of a move: put the session that take_hash.lua took under its new key. It is put in
-- front of save.lua, login.lua and put_back.lua, which then find the session there.
-- KEYS: the new key.
-- ARGV: the packed session, then the arguments of the script that follows.
-- Answers {key, TAKEN}, or goes on.
if redis.call('EXISTS', KEY) == 1 then return {KEY, TAKEN} end
do
  local expires, fields = cmsgpack.unpack(table.remove(ARGV, 1))
  write(KEY, fields, 1, #fields)
  local done = redis.pcall('PEXPIREAT', KEY, expires)
  if done ~= 1 then
    -- A session without a TTL must never remain, even if a permission is missing.
    redis.call('DEL', KEY)
    return type(done) == 'table' and done or {KEY, GONE}
  end
end
