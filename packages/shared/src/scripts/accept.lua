--[[
  Accepts a message: idempotency key, bound, append (I1, I2). Atomic on one session.

  KEYS  1 mailbox   2 message record   3 session   4 lease   5 events
  ARGV  1 message id   2 message (JSON)   3 tenant   4 agent   5 mailbox bound (messages)
        6 events channel   7 events length   8 events TTL (ms)   9 worker channel prefix   10 session id
        11 when the session was put into the pending index (ms)   12 how long ago that may be (ms)
        13 what to do where the session is at work: 'interrupt', 'rollback', 'reject', or '' (the message waits)

  Returns
    {1, seq, leased, marked}   appended; leased is 1 where an activation is alive and was told; marked is 1 where a
                               turn is to end for it, which may be one whose retry waits
    {0, seq, leased, state}    known already; nothing was changed
    {-1, messages}             the mailbox is full; nothing was changed
    {-3}                       refused, since another message waits or is at work; nothing was changed
    {-2}                       the index entry is so old that the sweeper may have removed it; nothing was
                               changed: index again
  Events  accepted, turn.cancelling
]]
--- @include "now"
--- @include "event"
--- @include "cancel"

local worker = redis.call('HGET', KEYS[4], 'worker')
local leased = worker and 1 or 0

local known = redis.call('HMGET', KEYS[2], 'seq', 'state')
if known[1] then
  if worker then redis.call('PUBLISH', ARGV[9] .. worker, ARGV[10]) end
  return {0, known[1], leased, known[2]}
end

local now = nowUs()
if now / 1000 - tonumber(ARGV[11]) > tonumber(ARGV[12]) then return {-2} end

local waiting = redis.call('XLEN', KEYS[1])
if ARGV[13] == 'reject' and waiting > 0 then return {-3} end
if waiting >= tonumber(ARGV[5]) then return {-1, waiting} end

-- Above the last one also where the clock went back, and from the clock where the last one was forgotten.
local session = redis.call('HMGET', KEYS[3], 'lastSeq', 'epoch')
local last = tonumber(session[1] or '0')
local seq = integer(math.max(now, last + 1))

redis.call('XADD', KEYS[1], seq .. '-0', 'm', ARGV[2])
-- Where Redis had forgotten the message, publishing its commit left an ended record without a number, which expires.
if known[2] then redis.call('DEL', KEYS[2]) end
redis.call('HSET', KEYS[2], 'seq', seq, 'state', 'accepted', 'acceptedAt', integer(math.floor(now / 1000)))
redis.call('HSET', KEYS[3], 'lastSeq', seq, 'tenant', ARGV[3], 'agent', ARGV[4])
-- It expires only after a release, so it had an epoch then.
if session[2] then redis.call('PERSIST', KEYS[3]) end
addEvent(KEYS[5], ARGV[6], ARGV[7], ARGV[8], cjson.encode({ type = 'accepted', messageId = ARGV[1] }))
local turn = (ARGV[13] == 'interrupt' or ARGV[13] == 'rollback') and redis.call('HGET', KEYS[3], 'turn')
if turn then
  markCancel(KEYS[3], turn, ARGV[13] == 'interrupt' and 'cancel' or 'rollback', KEYS[5], ARGV[6], ARGV[7], ARGV[8])
end
if worker then redis.call('PUBLISH', ARGV[9] .. worker, ARGV[10]) end
return {1, seq, leased, turn and 1 or 0}
