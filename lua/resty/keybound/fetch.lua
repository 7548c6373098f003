--- The engine's FETCH step: one request to an authorization server, over a connection of its own kind.
--
-- Requests for the same thing are one request: it runs in the background, so that a client that goes away takes nothing
-- from the others, and who asked waits for it.

local connection = require "resty.keybound.connection"
local library = require "resty.keybound.library"
local ffi = require "ffi"
local semaphore = require "ngx.semaphore"

local C = library.constants
local lib = library.lib
local string_of = library.string_of

local ffi_gc = ffi.gc
local max = math.max
local min = math.min
local ngx = ngx
local ngx_log = ngx.log
local ngx_now = ngx.now
local ngx_time = ngx.time
local pairs = pairs
local pcall = pcall
local remove = table.remove
local sleep = ngx.sleep
local timer_at = ngx.timer.at
local tonumber = tonumber
local tostring = tostring
local update_time = ngx.update_time
local ERR = ngx.ERR

local DONE = C.EXCHANGE_DONE
local OK = C.OK

-- Requests of an engine that a worker has under way at once; further ones wait for their turn.
local MAX_FLIGHTS = 64
local MAX_QUEUE = 1024
-- Read at once, in bytes.
local CHUNK = 16384
-- How long an idle connection is kept, in milliseconds, and how many of one kind.
local IDLE_MS = 55000
local POOL_SIZE = 32
-- Connections that a server closed while they were idle are found out by using them; then comes a new one.
local MAX_STALE = POOL_SIZE + 1
-- How long the end of a request is news, in seconds: so long the event loop may take to wake who waits.
local FRESH = 1
-- Seconds between two lines about the same failure.
local LOG_PAUSE = 10

local FOR_ALL = { metadata = true, jwks = true }

local OUTCOMES = {
  resolve = C.FETCH_RESOLVE,
  connect = C.FETCH_CONNECT,
  tls = C.FETCH_TLS,
  certificate = C.FETCH_TLS,
  timeout = C.FETCH_TIMEOUT,
  closed = C.FETCH_MALFORMED,
  malformed = C.FETCH_MALFORMED,
  too_large = C.FETCH_TOO_LARGE,
  busy = C.FETCH_BUSY,
}

local exchange_ptr_t = ffi.typeof("kb_exchange *[1]")

-- Scratch: filled and read without a yield between.
local fetch = ffi.new("kb_fetch")
fetch.struct_size = ffi.sizeof("kb_fetch")
local answer = ffi.new("kb_answer")
answer.struct_size = ffi.sizeof("kb_answer")
local str = ffi.new("kb_str")
local port = ffi.new("uint32_t[1]")
local state = ffi.new("uint32_t[1]")

local _M = {}


local function free_exchange(ptr) lib.kb_exchange_free(ptr) end


--- A request that failed, once in a while.
local function log_failure(engine, flight, kind, detail)
  local key = flight.issuer .. flight.endpoint .. kind
  local now = ngx_time()
  if now < (engine.logged[key] or 0) then
    return
  end
  engine.logged[key] = now + LOG_PAUSE
  ngx_log(ERR, "keybound: request to the authorization server failed, endpoint=", flight.endpoint,
          ", issuer=", flight.issuer, ", outcome=", kind, ", detail=", detail or "-")
end


--- Reads the answer. The TLS of nginx does not tell a clean end from a cut: what is read to the end of the connection
-- is JSON or signed, and a part of it is neither.
-- @return true; or nil, kind, message, and whether nothing had come
local function read_answer(conn, exchange, timeouts, deadline)
  local fresh = true
  lib.kb_exchange_request(exchange, str)
  local request = string_of(str)
  while true do
    update_time()
    local left = (deadline - ngx_now()) * 1000
    if left < 1 then
      return nil, "timeout", "the whole request took too long"
    end
    conn:settimeouts(timeouts.connect, min(timeouts.send, left), min(timeouts.read, left))
    local data, err
    if request then
      data, err = conn:ask(request, CHUNK)
      request = nil
    else
      data, err = conn:receive(CHUNK)
    end
    local rc
    if data then
      fresh = false
      rc = lib.kb_exchange_received(exchange, data, #data, state)
    elseif err == "closed" and not fresh then
      rc = lib.kb_exchange_closed(exchange, state)
      if rc ~= OK then
        return nil, "closed", "the connection was closed before the answer was complete"
      end
    else
      return nil, err == "timeout" and "timeout" or "closed", err, fresh and err ~= "timeout"
    end
    if rc ~= OK then
      return nil, rc == C.E_TOO_LARGE and "too_large" or "malformed", library.strerror(rc)
    end
    if state[0] == DONE then
      return true
    end
  end
end


--- One try.
-- @return true; or nil, kind, message, and whether the connection was merely stale
local function attempt(flight, deadline)
  update_time()
  local left = (deadline - ngx_now()) * 1000
  if left < 1 then
    return nil, "timeout", "the whole request took too long"
  end
  local timeouts = flight.timeouts
  local conn, kind, err = connection.open(flight.profile, flight.host, flight.port, {
    connect = min(timeouts.connect, left), send = min(timeouts.send, left), read = min(timeouts.read, left),
  }, flight.once)
  if not conn then
    return nil, kind, err
  end
  local exchange = flight.exchange
  local ok, stale
  ok, kind, err, stale = read_answer(conn, exchange, timeouts, deadline)
  if not ok then
    conn:close()
    return nil, kind, err, conn.reused and stale
  end
  if not flight.once and lib.kb_exchange_reusable(exchange) == 1 then
    conn:keepalive(IDLE_MS, POOL_SIZE)
  else
    conn:close()
  end
  return true
end


local function perform(flight)
  local deadline = flight.started + flight.timeouts.total / 1000
  local ok, kind, err, stale
  for _ = 1, MAX_STALE do
    ok, kind, err, stale = attempt(flight, deadline)
    if ok or not stale then
      break
    end
  end
  return ok, kind, err
end


--- Ends a flight, and wakes who waits for it.
local function finish(engine, flight, ok, kind, err)
  if not ok then
    log_failure(engine, flight, kind, tostring(err))
  end
  update_time()
  flight.ended = ngx_now()
  flight.elapsed = flight.ended - flight.started
  flight.outcome = ok and C.FETCH_ANSWERED or OUTCOMES[kind]
  flight.done:post(flight.waiting)
end


local function land(engine, flight)
  if engine.aloft[flight] then
    engine.aloft[flight] = nil
    engine.running = engine.running - 1
  end
end


local promise


--- Runs one flight.
local function fly(engine, flight)
  flight.running = true
  engine.aloft[flight] = true
  engine.running = engine.running + 1
  update_time()
  flight.started = ngx_now()
  if flight.started > flight.begun + flight.timeouts.total / 1000 then
    finish(engine, flight, nil, "busy", MAX_FLIGHTS .. " other requests took all the time")
  else
    local ran, ok, kind, err = pcall(perform, flight)
    if ran then
      finish(engine, flight, ok, kind, err)
    else
      finish(engine, flight, nil, "malformed", ok)
    end
  end
  -- Who waited comes first: until the engine knows what came of it, others join it. If all have gone away, it ends.
  sleep(0.001)
  if engine.flights[flight.key] == flight then
    engine.flights[flight.key] = nil
  end
  land(engine, flight)
end


--- Runs a flight, and then those that wait for their turn.
local function run(_, engine, flight)
  engine.promised = max(engine.promised - 1, 0)
  -- A timer that ran for ever would keep all the memory of its time.
  for _ = 1, MAX_FLIGHTS do
    -- It may have had no time to wait for us.
    if not flight.running then
      fly(engine, flight)
    end
    flight = remove(engine.queue, 1)
    if not flight then
      return
    end
  end
  promise(engine, flight)
end


--- Has a flight run in the background. A request may be aborted at any time: nothing of a flight is left to one.
promise = function(engine, flight)
  engine.promised, engine.promised_at = engine.promised + 1, ngx_now()
  if not timer_at(0, run, engine, flight) then
    engine.promised = engine.promised - 1
    flight.running = true
    finish(engine, flight, nil, "busy", "nginx has no timer to spare (lua_max_pending_timers)")
  end
end


--- Whether a flight has to wait for its turn. What was promised or begun and never ended is not counted for ever:
-- beyond lua_max_running_timers, or without a free connection, nginx drops timers and tells nobody.
local function is_full(engine)
  if engine.running + engine.promised < MAX_FLIGHTS then
    return false
  end
  local now = ngx_now()
  if now > engine.promised_at + FRESH then
    engine.promised = 0
  end
  for flight in pairs(engine.aloft) do
    if now > flight.started + 2 * flight.timeouts.total / 1000 + FRESH then
      land(engine, flight)
    end
  end
  return engine.running + engine.promised >= MAX_FLIGHTS
end


local function start(engine, flight)
  -- What all requests wait for does not queue up behind single tokens and users.
  if FOR_ALL[flight.endpoint] or (not is_full(engine) and #engine.queue == 0) then
    promise(engine, flight)
  elseif not is_full(engine) then
    -- Those that nobody was left to take along go first.
    engine.queue[#engine.queue + 1] = flight
    promise(engine, remove(engine.queue, 1))
  elseif #engine.queue < MAX_QUEUE then
    engine.queue[#engine.queue + 1] = flight
  else
    flight.running = true
    finish(engine, flight, nil, "busy", MAX_QUEUE .. " requests wait for their turn")
  end
end


--- Waits for the end of a flight.
-- @return true; or nil and a message where nothing can wait
local function await(engine, flight)
  local ok, err = flight.done:wait(min(FRESH, flight.timeouts.total / 2000))
  if not ok and err == "timeout" then
    if not flight.running and engine.running < MAX_FLIGHTS then
      -- It could run and does not: its timer was dropped, or that of those before it. Then in this request.
      fly(engine, flight)
    end
    if not flight.ended then
      ok, err = flight.done:wait(2 * flight.timeouts.total / 1000)
    end
  end
  if ok or flight.ended or err == "timeout" then
    return true
  end
  return nil, "it cannot be waited for here: " .. tostring(err)
end


--- Begins the request that the scratch `fetch` describes.
-- @treturn table|nil flight
-- @treturn nil|string message
local function begin(engine, check, key)
  local out = exchange_ptr_t()
  local rc = lib.kb_exchange_new(check, out)
  if rc ~= OK then
    return nil, library.strerror(rc)
  end
  local exchange = ffi_gc(out[0], free_exchange)
  lib.kb_exchange_target(exchange, str, port)
  update_time()
  local flight = {
    key = key,
    exchange = exchange,
    host = string_of(str),
    port = tonumber(port[0]),
    profile = engine.profiles[tonumber(fetch.tls) + 1],
    issuer = string_of(fetch.issuer) or "-",
    endpoint = string_of(fetch.endpoint),
    -- It may have had its effect although no answer came: it is not made twice.
    once = fetch.once == 1,
    timeouts = {
      connect = fetch.connect_timeout_ms,
      send = fetch.send_timeout_ms,
      read = fetch.read_timeout_ms,
      total = fetch.timeout_ms,
    },
    begun = ngx_now(),
    waiting = 0,
    done = semaphore.new(0),
  }
  flight.started = flight.begun
  engine.flights[key] = flight
  return flight
end


--- The flight for a key, unless it is of the past: nobody may have been there for its end, or nothing may have run it.
local function under_way(engine, key)
  local flight = engine.flights[key]
  if not flight then
    return nil
  end
  local now = ngx_now()
  local past
  if flight.ended then
    past = now > flight.ended + FRESH
  else
    past = now > flight.begun + 2 * flight.timeouts.total / 1000 + FRESH
  end
  return not past and flight or nil
end


--- Performs the FETCH step of a check, and feeds the answer back.
-- @return the status of the last call; or nil and a message
function _M.step(engine, check)
  local rc = lib.kb_check_fetch(check, fetch)
  if rc ~= OK then
    return rc
  end
  local key = string_of(fetch.flight)
  local flight = under_way(engine, key)
  if not flight then
    local err
    flight, err = begin(engine, check, key)
    if not flight then
      ngx_log(ERR, "keybound: a request cannot be made: ", err)
      return _M.feed(engine, check, { outcome = C.FETCH_MALFORMED })
    end
    flight.waiting = 1
    start(engine, flight)
  elseif not flight.ended then
    flight.waiting = flight.waiting + 1
  end
  if not flight.ended then
    local ok, err = await(engine, flight)
    if not ok then
      return nil, err
    end
  end
  return _M.feed(engine, check, flight)
end


--- Feeds the end of a flight to a check.
function _M.feed(engine, check, flight)
  if flight.ended and engine.flights[flight.key] == flight then
    -- From now on the engine knows what came of it.
    engine.flights[flight.key] = nil
  end
  answer.outcome = flight.outcome or C.FETCH_TIMEOUT
  answer.status = 0
  answer.content_type.ptr, answer.retry_after.ptr, answer.body.ptr = nil, nil, nil
  if answer.outcome == C.FETCH_ANSWERED then
    local rc = lib.kb_exchange_answer(flight.exchange, answer)
    if rc ~= OK then
      return rc
    end
  end
  answer.elapsed_us = min((flight.elapsed or 0) * 1e6, 4e9)
  answer.joined = flight.fed and 1 or 0
  local rc = lib.kb_check_fetched(check, ngx_time(), answer)
  -- Behind the call: until then the answer is the flight's.
  flight.fed = true
  return rc
end


--- What an engine needs to fetch.
-- @tparam table engine gets `profiles`, and what is under way
-- @treturn true|nil
-- @treturn nil|string message
function _M.prepare(engine)
  local tls = ffi.new("kb_tls")
  tls.struct_size = ffi.sizeof("kb_tls")
  local profiles = {}
  while lib.kb_engine_tls(engine.ptr, #profiles, tls) == OK do
    local profile, err = connection.profile({
      name = string_of(tls.name) or "authorization server",
      certificate = string_of(tls.certificate),
      private_key = string_of(tls.private_key),
      ca = string_of(tls.trusted),
      verify = tls.verify == 1,
    })
    if not profile then
      return nil, err
    end
    profiles[#profiles + 1] = profile
  end
  engine.profiles, engine.flights, engine.queue, engine.logged = profiles, {}, {}, {}
  engine.aloft, engine.running, engine.promised, engine.promised_at = {}, 0, 0, 0
  return true
end


return _M
