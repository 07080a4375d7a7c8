-- Add an item to the end of a list, and drop items from its beginning if it has too many.
-- The list is cut and joined as text, because a number or an empty list would not survive Lua's JSON.
-- KEYS: session.
-- ARGV: the store's idle, whether to extend the TTL (1 or 0), name, the item as JSON, how many items to keep, how many
-- fields are allowed, how many bytes the list may have, whether to answer it (1 or 0).
-- Answers {key, expires, now, how many items there are, the list}, or FULL if the field would be one too many, LARGE if
-- the list would. No items: the field holds no list.
local idle, deadline = alive(KEY, ARGV[1])
if not idle then return {KEY, deadline} end
local field, item, keep = field_of(KEY, ARGV[3]), ARGV[4], tonumber(ARGV[5])
if is_one_too_many(KEY, field, tonumber(ARGV[6])) then return {KEY, FULL} end

-- Where the comma after the n-th item of a list is: it is neither nested nor in text.
local function comma_after(n, text)
  local depth, at = 0, string.find(text, '[%[%]{}",]')
  while at do
    local mark = string.sub(text, at, at)
    if mark == '"' then
      repeat
        at = string.find(text, '["\\]', at + 1)
        local escaped = string.sub(text, at, at) == '\\'
        if escaped then at = at + 1 end
      until not escaped
    elseif mark == ',' then
      if depth == 1 then n = n - 1 end
      if n == 0 then return at end
    else
      depth = depth + ((mark == '[' or mark == '{') and 1 or -1)
    end
    at = string.find(text, '[%[%]{}",]', at + 1)
  end
end

local held = redis.call('HGET', KEY, field)
local list, items = '[' .. item .. ']', 1
if held then
  local opened = string.match(held, '^(%[.*)%]%s*$')
  -- Decoded only to know that it is valid JSON, and how many items it has.
  local is_json, decoded = pcall(cjson.decode, held)
  if not opened or not is_json then return {KEY, current_expiry(KEY), now, 0} end
  items = math.min(#decoded + 1, keep)
  local dropped = #decoded + 1 - items
  if dropped < #decoded then
    if dropped > 0 then opened = '[' .. string.sub(opened, comma_after(dropped, opened) + 1) end
    list = opened .. ',' .. item .. ']'
  end
end
if #list > tonumber(ARGV[7]) then return {KEY, LARGE} end

redis.call('HSET', KEY, field, list, '@seen', now)
local expires = current_expiry(KEY)
if ARGV[2] == '1' or expires < 0 then expires = extend(KEY, expires, expiry(idle, deadline)) end
return {KEY, expires, now, items, ARGV[8] == '1' and list or nil}
