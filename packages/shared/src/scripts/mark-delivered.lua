--[[
  Records that a reply was delivered; it leaves the outbox.

  KEYS  1 outbox   2 replies   3 delivered   4 events   5 sending
  ARGV  1 reply id   2 most deliveries remembered   3 their TTL (ms)   4 events channel   5 events length
        6 events TTL (ms)   7 event (JSON)

  Returns  1 recorded   0 was recorded before
  Events  reply.delivered
]]
--- @include "now"
--- @include "event"
--- @include "serve-when-full"

serveWhenFull(KEYS[2])
if redis.call('ZADD', KEYS[3], 'NX', integer(nowMs()), ARGV[1]) == 0 then return 0 end
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[2]))
redis.call('PEXPIRE', KEYS[3], ARGV[3])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[5], ARGV[1])
addEvents(KEYS[4], ARGV[4], ARGV[5], ARGV[6], {ARGV[7]})
return 1
