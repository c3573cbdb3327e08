--[[
  Redis' own clock, so that no process' clock matters.
  nowUs(): microseconds since the epoch, an integer below 2^53.
  nowMs(): milliseconds.
]]
local function nowUs()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function nowMs()
  return math.floor(nowUs() / 1000)
end

-- Lua would write large integers as 1.8e+15.
local function integer(value)
  return string.format('%.0f', value)
end
