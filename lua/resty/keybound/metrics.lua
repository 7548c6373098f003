--- What engines count, summed over workers in a shared dictionary, as an OpenMetrics page.
--
-- Each worker adds what its counters grew by; nothing is written while a request is decided.

local library = require "resty.keybound.library"
local ffi = require "ffi"
require "resty.core.shdict"

local C = library.constants
local lib = library.lib
local string_of = library.string_of

local concat = table.concat
local find = string.find
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


local function describe(engine)
  local counter = ffi.new("kb_counter")
  counter.struct_size = ffi.sizeof("kb_counter")
  local all = {}
  while lib.kb_engine_counter(engine.ptr, #all, counter) == C.OK do
    all[#all + 1] = {
      family = string_of(counter.family),
      kind = string_of(counter.kind),
      help = string_of(counter.help),
      sample = string_of(counter.sample),
      divisor = counter.divisor,
    }
  end
  return all
end


--- Adds what the counters of an engine grew by since the last time.
local function publish(engine)
  local counters = engine.counters
  local n = #counters.described
  if lib.kb_engine_counters(engine.ptr, counters.now, n, counters.needed) ~= C.OK then
    return
  end
  for i = 0, n - 1 do
    local grown = tonumber(counters.now[i] - counters.before[i])
    if grown > 0 then
      local ok, err, forcible = counters.dict:incr(counters.described[i + 1].sample, grown, 0)
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
  local described = describe(engine)
  engine.counters = {
    dict = dict,
    described = described,
    now = ffi.new("uint64_t[?]", #described),
    before = ffi.new("uint64_t[?]", #described),
    needed = ffi.new("size_t[1]"),
  }
  zones[zone] = zones[zone] or setmetatable({}, weak)
  local engines = zones[zone]
  engines[#engines + 1] = engine
  return true
end


--- All that is counted in a zone, by family, each sample once.
local function families_of(engines)
  local order, families, seen = {}, {}, {}
  for _, engine in pairs(engines) do
    publish(engine)
    for _, counter in ipairs(engine.counters.described) do
      local family = families[counter.family]
      if not family then
        family = { kind = counter.kind, help = counter.help }
        families[counter.family] = family
        order[#order + 1] = counter.family
      end
      if not seen[counter.sample] then
        seen[counter.sample] = true
        family[#family + 1] = counter
      end
    end
  end
  return order, families
end


--- The lines of a family: counters that never counted are left out. A histogram is there with all its buckets or not
-- at all; its sum is the last of it.
local function write_family(lines, family, dict)
  local histogram = family.kind == "histogram"
  local pending, counted = {}, false
  for _, counter in ipairs(family) do
    local value = dict:get(counter.sample)
    counted = counted or value ~= nil
    if value or histogram then
      local pattern = counter.divisor == 1 and "%s %d\n" or "%s %.6f\n"
      pending[#pending + 1] = format(pattern, counter.sample, (value or 0) / counter.divisor)
    end
    if not histogram or find(counter.sample, "_sum{", 1, true) then
      if counted then
        lines[#lines + 1] = concat(pending)
      end
      pending, counted = {}, false
    end
  end
end


--- Answers the request with the page of a zone.
function _M.page(zone)
  local dict = ngx.shared[zone]
  local order, families = families_of(zones[zone] or {})
  local lines = {}
  for _, name in ipairs(order) do
    local family = families[name]
    lines[#lines + 1] = format("# TYPE %s %s\n# HELP %s %s\n", name, family.kind, name, family.help)
    write_family(lines, family, dict)
  end
  lines[#lines + 1] = "# EOF\n"
  ngx.header["Content-Type"] = CONTENT_TYPE
  ngx.print(concat(lines))
end


return _M
