--[[
  Gives tenants' waiting turns their places in the order of the fleet (start-time fair queueing): a turn's tag
  is the virtual time, or one above its tenant's last tag where that is later.

  KEYS  1 turn order
  ARGV  for each tenant: tenant, turns (negative: so many were not needed)

  Returns  {base, then for each tenant the first of its tags; the others follow one by one}
]]
--- @include "now"

local order = redis.call('HMGET', KEYS[1], 'time', 'base')
local time = tonumber(order[1] or '0')
local result = {tonumber(order[2] or '0')}
for at = 1, #ARGV, 2 do
  local field = 'next:' .. ARGV[at]
  local first = math.max(time, tonumber(redis.call('HGET', KEYS[1], field) or '0'))
  redis.call('HSET', KEYS[1], field, integer(math.max(first + tonumber(ARGV[at + 1]), time)))
  result[#result + 1] = first
end
return result
