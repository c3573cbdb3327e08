--[[
  Says that turns started: one that waited under a tag moves the virtual time to it; one that did not (a follow-up
  in a live activation) is charged to its tenant now.

  KEYS  1 turn order
  ARGV  for each turn: tenant, tag ('' where it had none)

  Returns  the virtual time
]]
--- @include "now"

local time = tonumber(redis.call('HGET', KEYS[1], 'time') or '0')
for at = 1, #ARGV, 2 do
  if ARGV[at + 1] ~= '' then
    time = math.max(time, tonumber(ARGV[at + 1]))
  else
    local field = 'next:' .. ARGV[at]
    local next = math.max(time, tonumber(redis.call('HGET', KEYS[1], field) or '0'))
    redis.call('HSET', KEYS[1], field, integer(next + 1))
  end
end
redis.call('HSET', KEYS[1], 'time', integer(time))
return time
