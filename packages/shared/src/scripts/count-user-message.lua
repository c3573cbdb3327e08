--[[
  Counts a user's message of a day, once, whatever day it was counted on first.

  KEYS  1 messages of the day   2 messages of the day before
  ARGV  1 message id   2 most messages a day   3 TTL (ms)

  Returns  1 counted, now or before   0 the day's are spent; nothing was changed
]]
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 or redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 1 end
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
