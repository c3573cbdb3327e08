--[[
  Puts sessions into the pending index, before their messages are accepted, so that the sweeper finds them
  whatever dies in between (I2).

  KEYS  1 shard of the pending index
  ARGV  session ids, at least one

  Returns  the time of it (ms), for accept
]]
--- @include "now"

local now = nowMs()
local score = integer(now)
local entries = {}
for index = 1, #ARGV do
  entries[2 * index - 1] = score
  entries[2 * index] = ARGV[index]
end
redis.call('ZADD', KEYS[1], unpack(entries))
return now
