-- Closed loop: what each kind of request is, and the figures as one line of JSON.
-- Arguments: the workload, a file with one cookie value a line. Each request takes the next cookie.

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

function init(args)
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

function done(summary, latency, requests)
  local parts = {}
  for _, p in ipairs({ 50, 75, 90, 95, 99, 99.5, 99.9, 99.99 }) do
    parts[#parts + 1] = string.format('"%g": %d', p, latency:percentile(p))
  end
  local errors = summary.errors
  print(string.format(
    'JSON{"requests": %d, "seconds": %.4f, "errors": %d, "timeouts": %d, "latency": {%s}}',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status, errors.timeout,
    table.concat(parts, ", ")))
end
