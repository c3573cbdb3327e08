--[[
  Lets a turn in by all of its gates, or by none: then its session waits at the first that is full.

  KEYS  1 index of gates where somebody waits   then for each gate: inside, waiting
  ARGV  1 permit   2 session id   3 age of its message (ms since the epoch)   4 time to live of permits and calls (ms)
        then for each gate: name, most turns

  Returns
    {0, sessions that were called...}       inside
    {gate, sessions that were called...}    the number of the gate that is full, from 1
]]
--- @include "now"
--- @include "gates"

local now = nowMs()
local ttl = tonumber(ARGV[4])
local call = 'call:' .. ARGV[2]
local gates = (#KEYS - 1) / 2
local result = {0}
local function callAt(gate)
  callWaiting(KEYS[1], KEYS[2 * gate], KEYS[2 * gate + 1], ARGV[3 + 2 * gate], tonumber(ARGV[4 + 2 * gate]), ttl, now, result)
end

for gate = 1, gates do
  callAt(gate)
  local inside = KEYS[2 * gate]
  local isIn = redis.call('ZSCORE', inside, ARGV[1]) or redis.call('ZSCORE', inside, call)
  if not isIn and result[1] == 0 and redis.call('ZCARD', inside) >= tonumber(ARGV[4 + 2 * gate]) then
    result[1] = gate
  end
end

if result[1] == 0 then
  for gate = 1, gates do
    redis.call('ZREM', KEYS[2 * gate], call)
    redis.call('ZREM', KEYS[2 * gate + 1], ARGV[2])
    redis.call('ZADD', KEYS[2 * gate], integer(now + ttl), ARGV[1])
  end
else
  redis.call('ZADD', KEYS[2 * result[1] + 1], ARGV[3], ARGV[2])
  -- Room that was kept for it elsewhere is somebody else's now.
  for gate = 1, gates do
    redis.call('ZREM', KEYS[2 * gate], call)
    callAt(gate)
  end
end
return result
