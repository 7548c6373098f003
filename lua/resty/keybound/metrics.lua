--- What engines count, summed over workers in a shared dictionary, as an OpenMetrics page.
--
-- Each worker adds what its counters grew by; nothing is written while a request is decided.

local library = require "resty.keybound.library"
local ffi = require "ffi"
require "resty.core.shdict"

local C = library.constants
local lib = library.lib
local string_of = library.string_of

local error = error
local ffi_gc = ffi.gc
local format = string.format
local ipairs = ipairs
local ngx = ngx
local ngx_log = ngx.log
local ngx_now = ngx.now
local pairs = pairs
local setmetatable = setmetatable
local exiting = ngx.worker.exiting
local timer_at = ngx.timer.at
local tonumber = tonumber
local tostring = tostring
local WARN = ngx.WARN

-- Seconds between two additions.
local PERIOD = 1
-- Seconds without one, after which nginx has dropped the timer.
local SILENCE = 10
local CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

-- By zone: the engines of this worker that count there.
local zones = {}

local _M = {}


--- The samples that an engine counts: their texts, by which workers add them up.
local function samples_of(engine)
  local counter = ffi.new("kb_counter")
  counter.struct_size = ffi.sizeof("kb_counter")
  local all = {}
  while lib.kb_engine_counter(engine.ptr, #all, counter) == C.OK do
    all[#all + 1] = string_of(counter.sample)
  end
  return all
end


--- Adds what the counters of an engine grew by since the last time.
local function publish(engine)
  local counters = engine.counters
  local n = #counters.samples
  if lib.kb_engine_counters(engine.ptr, counters.now, n, counters.needed) ~= C.OK then
    return
  end
  for i = 0, n - 1 do
    local grown = tonumber(counters.now[i] - counters.before[i])
    if grown > 0 then
      local ok, err, forcible = counters.dict:incr(counters.samples[i + 1], grown, 0)
      if ok then
        counters.before[i] = counters.now[i]
      end
      if (not ok or forcible) and not counters.warned then
        counters.warned = true
        ngx_log(WARN, "keybound: the zone of the metrics is too small, counters are lost: ", err or "evicted")
      end
    end
  end
end


-- It must not keep an engine alive that nothing else refers to.
local weak = { __mode = "v" }


local function tick(premature, holder)
  local engine = holder.engine
  -- Another one has taken its place, after a silence that was none.
  if not engine or engine.counters.ticking ~= holder.number then
    return
  end
  publish(engine)
  -- nginx ends the timers of a worker that goes, while it still answers requests: the next one begins anew.
  engine.counters.started = not premature and timer_at(PERIOD, tick, holder) and ngx_now() or nil
end


--- Sees to it that this worker publishes.
function _M.keep_publishing(engine)
  local counters = engine.counters
  local now = ngx_now()
  if counters.started and now < counters.started + SILENCE then
    return
  end
  counters.started = now
  counters.ticking = (counters.ticking or 0) + 1
  -- In a worker that goes there are no timers but at once.
  local holder = setmetatable({ engine = engine, number = counters.ticking }, weak)
  local ok, err = timer_at(exiting() and 0 or PERIOD, tick, holder)
  if not ok then
    ngx_log(WARN, "keybound: counters are published on the page only: ", tostring(err))
  end
end


--- Makes an engine count in a zone.
-- @treturn true|nil
-- @treturn nil|string message
function _M.prepare(engine, zone)
  local dict = ngx.shared[zone]
  if not dict then
    return nil, format("metrics: no `lua_shared_dict %s`; put `lua_shared_dict %s 1m;` into the http block", zone, zone)
  end
  local samples = samples_of(engine)
  engine.counters = {
    dict = dict,
    samples = samples,
    now = ffi.new("uint64_t[?]", #samples),
    before = ffi.new("uint64_t[?]", #samples),
    needed = ffi.new("size_t[1]"),
  }
  zones[zone] = zones[zone] or setmetatable({}, weak)
  local engines = zones[zone]
  engines[#engines + 1] = engine
  return true
end


-- A closure, not the C function: a finalizer that is a C function can run after its library object was collected.
local function free_page(ptr) lib.kb_page_free(ptr) end


--- Puts what an engine counts on a page, with the values of the zone, which are those of all workers and engines: of
-- each sample once.
local function put(page, engine, dict, seen)
  local samples = engine.counters.samples
  local values = ffi.new("uint64_t[?]", #samples)
  for i, sample in ipairs(samples) do
    if not seen[sample] then
      seen[sample] = true
      values[i - 1] = dict:get(sample) or 0
    end
  end
  return lib.kb_page_add(page, engine.ptr, values, #samples)
end


--- Answers the request with the page of a zone.
function _M.page(zone)
  local dict = ngx.shared[zone]
  local engines = zones[zone] or {}
  for _, engine in pairs(engines) do
    publish(engine)
  end
  local made, text, seen = ffi.new("kb_page *[1]"), ffi.new("kb_str"), {}
  local rc = lib.kb_page_new(made)
  local page = ffi_gc(made[0], free_page)
  for _, engine in pairs(engines) do
    if rc == C.OK then
      rc = put(page, engine, dict, seen)
    end
  end
  if rc == C.OK then
    rc = lib.kb_page_text(page, text)
  end
  if rc ~= C.OK then
    error("keybound.metrics: " .. library.strerror(rc))
  end
  ngx.header["Content-Type"] = CONTENT_TYPE
  ngx.print(string_of(text))
  -- The garbage collector does not see how much it is.
  free_page(ffi_gc(page, nil))
end


return _M
