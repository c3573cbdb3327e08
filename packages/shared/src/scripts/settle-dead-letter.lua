--[[
  Takes a dead letter off its tenant's list for good, and remembers what became of it: the first outcome stays.

  KEYS  1 list   2 summaries   3 how it was settled (of this id)
  ARGV  1 id   2 outcome (JSON)   3 how long it is remembered (ms)

  Returns  1 settled   0 was settled before; it is off the list all the same
]]
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('SET', KEYS[3], ARGV[2], 'NX', 'PX', ARGV[3]) and 1 or 0
