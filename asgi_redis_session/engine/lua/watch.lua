-- Look at sessions that somebody watches. The TTL stays as it is.
-- KEYS: sessions. ARGV: the store's idle.
-- Answers {the first key, now, when each of them expires; 0 if it has ended}.
local instants = {}
for i, key in ipairs(KEYS) do
  local idle, deadline = alive(key, ARGV[1])
  local expires = idle and current_expiry(key) or 0
  instants[i] = expires < 0 and expiry(idle, deadline) or expires
end
return {KEY, now, instants}
