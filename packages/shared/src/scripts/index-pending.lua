--[[
  Puts a session into the pending index, before its message is accepted, so that the sweeper finds it
  whatever dies in between (I2).

  KEYS  1 shard of the pending index
  ARGV  1 session id

  Returns  the time of it (ms), for accept
]]
--- @include "now"

local now = nowMs()
redis.call('ZADD', KEYS[1], integer(now), ARGV[1])
return now
