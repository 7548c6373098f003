--- Finds and loads libkeybound, and refuses one that these declarations do not fit.

local constants = require "resty.keybound.cdefs"
local ffi = require "ffi"

local concat = table.concat
local error = error
local ffi_str = ffi.string
local gmatch = string.gmatch
local gsub = string.gsub
local io_open = io.open
local package = package
local ipairs = ipairs
local pcall = pcall
local tonumber = tonumber


--- The library beside the other C modules of this Lua, else where the system's loader looks.
local function load()
  local tried = {}
  for template in gmatch(package.cpath, "[^;]+") do
    local path = gsub(template, "%?", "libkeybound")
    local file = io_open(path, "rb")
    if file then
      file:close()
      return ffi.load(path)
    end
    tried[#tried + 1] = path
  end
  for _, name in ipairs { "libkeybound.so.1", "keybound" } do
    local ok, lib = pcall(ffi.load, name)
    if ok then
      return lib
    end
    tried[#tried + 1] = name
  end
  error("libkeybound.so is not found; tried " .. concat(tried, ", "))
end


local lib = load()
local abi = lib.kb_abi_version()
if abi ~= constants.ABI_VERSION then
  error("libkeybound with ABI " .. constants.ABI_VERSION .. " required but got " .. abi)
end


--- A kb_str.
-- @treturn string|nil nil where it is absent
local function string_of(s)
  if s.ptr == nil then
    return nil
  end
  return ffi_str(s.ptr, s.len)
end


--- What a call that was not OK says, in its error buffer or by its status.
-- @param errlen of the text, which the buffer may be too small for
local function message_of(status, errbuf, size, errlen)
  if status ~= constants.E_CONFIG and status ~= constants.E_TLS then
    return ffi_str(lib.kb_strerror(status))
  end
  local len = tonumber(errlen[0])
  return ffi_str(errbuf, len < size and len or size)
end


return {
  -- Held by every module that uses it: it must outlive all objects that it made.
  lib = lib,
  constants = constants,
  version = ffi_str(lib.kb_version()),
  string_of = string_of,
  message_of = message_of,
  strerror = function(status) return ffi_str(lib.kb_strerror(status)) end,
}
