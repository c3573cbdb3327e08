--[[
  A turn is over: its room goes to those who wait. With an empty permit: looks for room that nobody gave back.

  KEYS  1 index of gates where somebody waits   then for each gate: inside, waiting
  ARGV  1 permit or ''   2 time to live of calls (ms)   then for each gate: name, most turns

  Returns  the sessions that were called
]]
--- @include "now"
--- @include "gates"

local now = nowMs()
local called = {}
for gate = 1, (#KEYS - 1) / 2 do
  redis.call('ZREM', KEYS[2 * gate], ARGV[1])
  callWaiting(KEYS[1], KEYS[2 * gate], KEYS[2 * gate + 1], ARGV[1 + 2 * gate], tonumber(ARGV[2 + 2 * gate]),
    tonumber(ARGV[2]), now, called)
end
return called
