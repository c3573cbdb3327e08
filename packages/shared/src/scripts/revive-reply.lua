--[[
  Takes a dead reply back into the outbox, at its place in the order, with its attempts forgotten.

  KEYS  1 outbox   2 replies   3 delivered   4 sending   5 dead replies
  ARGV  1 reply id   2 its entry among the dead replies   3 place in the order   4 reply (JSON)

  Returns  1 in the outbox   0 not dead any more; nothing was changed
]]
if redis.call('XDEL', KEYS[5], ARGV[2]) == 0 then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[4])
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
return 1
