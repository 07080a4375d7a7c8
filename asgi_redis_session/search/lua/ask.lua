#!lua flags=no-writes,allow-cross-slot-keys
-- Ask the index of one master of a Cluster. See ../spread.py and ../shapes.py.
--
-- It is asked by a script because, from Redis 7.4 on, Redis Search can't read a hash there unless it
-- is in the slot of the index's name. A script can. It has no key, because it asks for those of all
-- slots of the node.
--
-- ARGV: the name of the index; what to answer; how many sessions to look at; how many fields each
-- of them must have, and these; then the question, its text first.
-- Answer: the name, CLUSTER NODES, FT.INFO, how many sessions match, and what was wanted of them.
local name, wanted, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local first = 5 + ARGV[4]
local fields = {unpack(ARGV, 5, first - 1)}

local nodes = redis.call('CLUSTER', 'NODES')
local info = redis.pcall('FT.INFO', name)
if info.err then
    return {name, nodes, info}
end
if wanted == 'aggregate' then
    return {name, nodes, info, 0, redis.pcall('FT.AGGREGATE', name, unpack(ARGV, first))}
end

-- One session more than wanted, to learn whether there are more; Redis Search allows a million.
local limit = math.min(most + 1, 1000000)
local found = redis.pcall('FT.SEARCH', name, ARGV[first], 'NOCONTENT', 'SCORER', 'DOCSCORE',
    'LIMIT', 0, limit, unpack(ARGV, first + 1))
if found.err then
    return {name, nodes, info, 0, found}
end

-- The values of a session's fields; nil if it has expired, or lacks one of them.
local function read(key)
    local values = redis.pcall('HMGET', key, unpack(fields))
    if values.err then
        -- While the key's slot moves, Redis 7.4 looks for it in the slot of the command before.
        -- After a command without a key it looks in the right one.
        redis.call('TIME')
        values = redis.pcall('HMGET', key, unpack(fields))
    end
    if values.err then  -- it is no hash, or has moved to another node
        return nil
    end
    for number = 1, #fields do
        if not values[number] then
            return nil
        end
    end
    return values
end

local count, sessions, sums = 0, {}, {}
for place = 2, #found do
    local key = found[place]
    local values = read(key)
    if values then
        count = count + 1
        if wanted == 'sessions' then
            sessions[count] = {key, unpack(values)}
        elseif wanted == 'groups' then
            local number = values[2] and tonumber(values[2]) or values[2] and 0 or 1
            for tag in string.gmatch(values[1], '[^\31]+') do
                sums[tag] = (sums[tag] or 0) + number
            end
        end
    end
end

local matched, answer = #found - 1, count
if matched == limit then
    matched = most + 1
end
if wanted == 'sessions' then
    answer = sessions
elseif wanted == 'groups' then
    answer = {}
    for tag, sum in pairs(sums) do
        answer[#answer + 1] = {tag, string.format('%.17g', sum)}
    end
end
return {name, nodes, info, matched, answer}
