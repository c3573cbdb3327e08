--[[
  Puts a schedule among those of its tenant, in the place of one of the same id.

  KEYS  1 schedules (hash)
  ARGV  1 id   2 schedule (JSON)   3 most schedules

  Returns  1 new   0 replaced   -1 there are as many already; nothing was changed
]]
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
  return -1
end
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
