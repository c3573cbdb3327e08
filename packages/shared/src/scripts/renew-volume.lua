--[[
  Says that a volume is still written.

  KEYS  1 lease of the volume   2 sessions that wait for it
  ARGV  1 nonce   2 time to live (ms)

  Returns  how many sessions wait   -1 not held any more
]]
--- @include "now"

if redis.call('HGET', KEYS[1], 'nonce') ~= ARGV[1] then return -1 end
redis.call('HSET', KEYS[1], 'until', nowMs() + tonumber(ARGV[2]))
return redis.call('ZCARD', KEYS[2])
