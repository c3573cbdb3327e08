--[[
  Gives a reply up: it leaves the outbox and becomes a dead reply. It counts as settled, so that a commit
  that carries it does not bring it back.

  KEYS  1 outbox   2 replies   3 delivered   4 events   5 sending   6 dead replies
  ARGV  1 reply id   2 most settled replies remembered   3 their TTL (ms)   4 events channel
        5 events length   6 events TTL (ms)   7 event (JSON)   8 dead reply (JSON)
        9 most dead replies kept   10 their TTL (ms)

  Returns  1 buried   0 not in the outbox any more; nothing was changed
  Events  reply.dead
]]
--- @include "now"
--- @include "event"

if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[5], ARGV[1])
redis.call('ZADD', KEYS[3], 'NX', integer(nowMs()), ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[2]))
redis.call('PEXPIRE', KEYS[3], ARGV[3])
redis.call('XADD', KEYS[6], 'MAXLEN', ARGV[9], '*', 'r', ARGV[8])
redis.call('PEXPIRE', KEYS[6], ARGV[10])
addEvents(KEYS[4], ARGV[4], ARGV[5], ARGV[6], {ARGV[7]})
return 1
