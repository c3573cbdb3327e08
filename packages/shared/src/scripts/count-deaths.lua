--[[
  Looks at the messages of a turn that was left: one that a dead worker was at work on is suspect, or has failed.

  KEYS  1 lease   2.. message records
  ARGV  1 nonce   2 epoch

  Returns  {1, then for each record: suspects, attempts}   {-1} not held any more
]]
--- @include "fence"
--- @include "death"

if not holdsLease(KEYS[1], ARGV[1], ARGV[2]) then return {-1} end
local result = {1}
for index = 2, #KEYS do
  local found = redis.call('HMGET', KEYS[index], 'state', 'by', 'alone')
  countDeath(KEYS[index], ARGV[1], found[1], found[2], found[3])
  local counts = redis.call('HMGET', KEYS[index], 'suspects', 'attempts')
  result[#result + 1] = tonumber(counts[1] or '0')
  result[#result + 1] = tonumber(counts[2] or '0')
end
return result
