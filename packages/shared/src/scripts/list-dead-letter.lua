--[[
  Puts a dead letter or dead reply on its tenant's list; the oldest beyond the bound leave it.

  KEYS  1 list (sorted set of ids by time)   2 summaries (hash)   3 how it was settled (of this id)
  ARGV  1 id   2 summary (JSON)   3 when it died (ms, '' for now)   4 most that are listed

  Returns  1 on the list   0 it was retried or dropped before; nothing was changed
]]
--- @include "now"
--- @include "serve-when-full"

if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
serveWhenFull(KEYS[2])
local diedAt = ARGV[3] == '' and integer(nowMs()) or ARGV[3]
redis.call('ZADD', KEYS[1], 'NX', diedAt, ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local beyond = redis.call('ZRANGE', KEYS[1], 0, -1 - tonumber(ARGV[4]))
for _, id in ipairs(beyond) do
  redis.call('ZREM', KEYS[1], id)
  redis.call('HDEL', KEYS[2], id)
end
return 1
