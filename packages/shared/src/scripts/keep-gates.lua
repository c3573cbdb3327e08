--[[
  Prolongs a permit.

  KEYS  for each gate: inside
  ARGV  1 permit   2 time to live (ms)

  Returns  1
]]
--- @include "now"

for gate = 1, #KEYS do
  redis.call('ZADD', KEYS[gate], integer(nowMs() + tonumber(ARGV[2])), ARGV[1])
end
return 1
