--- Takes the steps of a check, until it is decided. It yields: what lies in scratch before is gone after.

local fetch = require "resty.keybound.fetch"
local library = require "resty.keybound.library"
local ffi = require "ffi"

local C = library.constants
local lib = library.lib

local ffi_str = ffi.string
local ngx = ngx
local ngx_log = ngx.log
local ngx_time = ngx.time
local sleep = ngx.sleep
local ERR = ngx.ERR

local OK = C.OK
local ABSENT = ffi.new("kb_str")
-- Seconds between two lines about the store.
local LOG_PAUSE = 10
-- More steps than any check has: an error would be a loop that never ends.
local MAX_STEPS = 512

local ANSWERS = {
  stored = C.STORED,
  exists = C.STORE_EXISTS,
  found = C.STORE_FOUND,
  absent = C.STORE_ABSENT,
  failed = C.STORE_FAILED,
}

local operation = ffi.new("kb_store")
operation.struct_size = ffi.sizeof("kb_store")
local value = ffi.new("kb_str")

local _M = {}


local function operate(store, op, key, content, ttl)
  if op == C.STORE_ADD then
    return store:add(key, content, ttl)
  end
  if op == C.STORE_GET then
    return store:get(key)
  end
  if op == C.STORE_PUT then
    return store:put(key, content, ttl)
  end
  return store:delete(key)
end


--- Performs the STORE step of a check, and feeds the answer back.
-- @return the status of the last call
local function store_step(engine, check)
  local rc = lib.kb_check_store(check, operation)
  if rc ~= OK then
    return rc
  end
  local op, ttl = operation.operation, operation.ttl_s
  local key = ffi_str(operation.key.ptr, operation.key.len)
  local content = ffi_str(operation.value.ptr, operation.value.len)
  if operation.delay_ms > 0 then
    sleep(operation.delay_ms / 1000)
  end
  local result, found = "failed", nil
  if engine.store then
    result, found = operate(engine.store, op, key, content, ttl)
    if result == "failed" and ngx_time() >= (engine.store_logged or 0) then
      engine.store_logged = ngx_time() + LOG_PAUSE
      ngx_log(ERR, "keybound: the shared store failed: ", found)
    end
  end
  if result == "found" then
    -- Kept here while the library reads it.
    _M.anchor = found
    value.ptr, value.len = ffi.cast("const uint8_t *", found), #found
    return lib.kb_check_stored(check, ngx_time(), ANSWERS.found, value)
  end
  return lib.kb_check_stored(check, ngx_time(), ANSWERS[result], ABSENT)
end


--- @tparam table engine what `fetch.prepare` made; `store`, or nil
-- @treturn number|nil the last step: ALLOW or RESPOND
-- @treturn nil|string message where a step could not be taken; that is a refusal
function _M.run(engine, check)
  for _ = 1, MAX_STEPS do
    local step = lib.kb_check_step(check)
    local rc, err
    if step == C.STEP_ALLOW or step == C.STEP_RESPOND then
      return step
    elseif step == C.STEP_FETCH then
      rc, err = fetch.step(engine, check)
    elseif step == C.STEP_STORE then
      rc = store_step(engine, check)
    else
      return nil, "a step that this host cannot take"
    end
    if rc ~= OK then
      return nil, err or library.strerror(rc)
    end
  end
  return nil, "too many steps"
end


return _M
