-- Closed loop: what each kind of request is, and the figures as one line of JSON.
-- Arguments: the workload, a file with one cookie value a line, the number of connections. Each
-- request takes the next cookie.

local KINDS = {
  untouched = { "GET", "/untouched" },
  read = { "GET", "/read" },
  write = { "POST", "/write" },
  big_read = { "GET", "/big/read" },
  big_write = { "POST", "/big/write" },
}
local cookies, position, kind = {}, 0, nil

local function send(kind, cookie)
  return wrk.format(kind[1], kind[2], { Cookie = cookie and "session=" .. cookie })
end

local function cycle()
  position = position % #cookies + 1
  return cookies[position]
end

local function one_kind()
  return send(kind, cycle())
end

-- Nine reads, then a write.
local function mixed()
  local cookie = cycle()
  return send(position % 10 == 0 and KINDS.write or KINDS.read, cookie)
end

-- Log in, and log out what another connection has logged in.
local logged_in = {}
local function login_and_logout()
  local cookie = table.remove(logged_in)
  if cookie then return send({ "POST", "/logout" }, cookie) end
  return send({ "POST", "/login" })
end

local function remember(status, headers)
  for name, value in pairs(headers) do
    if name:lower() == "set-cookie" then
      local cookie = value:match("^session=([^;]+)")
      if cookie and #cookie > 20 and not value:find("Max%-Age=0") then
        logged_in[#logged_in + 1] = cookie
      end
    end
  end
end

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  connections = tonumber(args[3])
  for line in io.lines(args[2]) do cookies[#cookies + 1] = line end
  math.randomseed(os.time())
  if #cookies > 0 then position = math.random(#cookies) end
  kind = KINDS[args[1]]
  request = one_kind
  if args[1] == "mixed" then request = mixed end
  if args[1] == "login_logout" then
    request, response = login_and_logout, remember
  end
end

-- wrk "corrects" its histogram before anybody sees it: for each answer that took more than twice
-- the mean time, it invents those that the connection could have had meanwhile. The fixed rates are
-- there for that; here only answers that were seen shall count. From the slowest down, what wrk has
-- added can be taken back exactly; `done` checks that as many are left as there were requests.
local ffi = require("ffi")
ffi.cdef("struct stats { uint64_t count, limit, min, max, data[]; };")

local function take_back(stats, mean)
  for slow = tonumber(stats.max), 2 * mean, -1 do
    local count = stats.data[slow]
    if count ~= 0 then
      for invented = slow - mean, mean + 1, -mean do
        stats.data[invented] = stats.data[invented] - count
      end
    end
  end
end

local function count(stats)
  local total = 0
  for n = tonumber(stats.min), tonumber(stats.max) do total = total + tonumber(stats.data[n]) end
  return total
end

local PERCENTILES = { 50, 75, 90, 95, 99, 99.5, 99.9, 99.99 }

local function percentiles(stats, total)
  local parts, seen, n = {}, 0, tonumber(stats.min) - 1
  for _, p in ipairs(PERCENTILES) do
    while seen < math.ceil(p / 100 * total) do
      n = n + 1
      seen = seen + tonumber(stats.data[n])
    end
    parts[#parts + 1] = string.format('"%g": %d', p, n)
  end
  return "{" .. table.concat(parts, ", ") .. "}"
end

function done(summary, latency, requests)
  local stats, errors = ffi.cast("struct stats **", latency)[0], summary.errors
  local each = math.floor(summary.requests / threads[1]:get("connections"))
  local answered = summary.requests - errors.timeout
  local corrected = percentiles(stats, count(stats))
  if each > 0 then take_back(stats, math.floor(summary.duration / each)) end
  if count(stats) ~= answered then error("this wrk's histogram is another one") end
  print(string.format(
    'JSON{"requests": %d, "seconds": %.4f, "errors": %d, "timeouts": %d, "latency": %s, "corrected": %s}',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status, errors.timeout,
    percentiles(stats, answered), corrected))
end
