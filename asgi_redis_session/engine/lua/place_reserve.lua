-- Reserve a place for a login, or look again at which places have to go for it.
-- KEYS: index.
-- ARGV: handle; how many places are allowed, or 0 for any number; what to do if they are all taken (0 refuse, 1 make
-- room, 2 look again after making room); lifetime; handles whose places it will replace.
-- Answers {key, 1 or 0 (full), now, {victim, score, victim, score, ...}[, other places, 1 if there was something else
-- than an index]}: the oldest places, which have to go, and how many there are beside this one and those it replaces.
local handle, most = ARGV[1], tonumber(ARGV[2])
-- When they look again, all logins must find the same oldest places, their own among them.
local stays = {[handle] = ARGV[3] ~= '2'}
local others = redis.call('ZCARD', KEY)
if redis.call('ZSCORE', KEY, handle) then others = others - 1 end
for i = 5, #ARGV do
  if not stays[ARGV[i]] and redis.call('ZSCORE', KEY, ARGV[i]) then others = others - 1 end
  stays[ARGV[i]] = true
end
local excess = most > 0 and others + 1 - most or 0
if excess > 0 and ARGV[3] == '0' then return {KEY, 0, now, {}} end

if ARGV[3] == '2' then
  -- Another login has made room by ending this one.
  if not redis.call('ZSCORE', KEY, handle) then return {KEY, 1, now, {}} end
else
  local failure = add(handle, -next_instant(), tonumber(ARGV[4]))
  if failure then return failure end
end
if excess <= 0 then return {KEY, 1, now, {}, others, was_occupied} end

-- Two lists, each with the oldest first: places of written sessions, and places that are only reserved.
local count = math.min(excess, 1000) + #ARGV
local held = redis.call('ZRANGEBYSCORE', KEY, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, count)
local reserved = redis.call('ZREVRANGEBYSCORE', KEY, '(0', '-inf', 'WITHSCORES', 'LIMIT', 0, count)
local victims, h, t = {}, 1, 1
while excess > 0 and (held[h] or reserved[t]) do
  local victim, score
  if held[h] and (not reserved[t] or tonumber(held[h + 1]) <= -tonumber(reserved[t + 1])) then
    victim, score, h = held[h], held[h + 1], h + 2
  else
    victim, score, t = reserved[t], reserved[t + 1], t + 2
  end
  if not stays[victim] then
    table.insert(victims, victim)
    table.insert(victims, score)
    excess = excess - 1
  end
end
return {KEY, 1, now, victims}
