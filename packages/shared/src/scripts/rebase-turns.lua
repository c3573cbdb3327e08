--[[
  Moves the base of the turn order up to the virtual time where priorities, which count from it, come near to
  their limit. Jobs that wait under the old base have to be given new priorities for a while after: one that is
  being added just now has an old one.

  KEYS  1 turn order
  ARGV  1 how far the virtual time may be above the base   2 how long after a move jobs are looked at (ms)

  Returns  {base, 1 where waiting jobs have to be looked at, else 0}
]]
--- @include "now"

local order = redis.call('HMGET', KEYS[1], 'time', 'base', 'rebasedAt')
local time = tonumber(order[1] or '0')
local base = tonumber(order[2] or '0')
if time - base > tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'base', integer(time), 'rebasedAt', integer(nowMs()))
  -- Who has no turn beyond the virtual time begins at it anyway.
  local fields = redis.call('HGETALL', KEYS[1])
  for at = 1, #fields, 2 do
    if string.sub(fields[at], 1, 5) == 'next:' and tonumber(fields[at + 1]) <= time then
      redis.call('HDEL', KEYS[1], fields[at])
    end
  end
  return {time, 1}
end
if not order[3] then return {base, 0} end
if nowMs() - tonumber(order[3]) > tonumber(ARGV[2]) then redis.call('HDEL', KEYS[1], 'rebasedAt') end
return {base, 1}
