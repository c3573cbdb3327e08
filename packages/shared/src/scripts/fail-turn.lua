--[[
  Records that a turn failed; its messages stay at the head of the mailbox (I1).

  KEYS  1 lease   2 session   3 events   4.. message records
  ARGV  1 nonce   2 epoch   3 events channel   4 events length   5 events TTL (ms)   6 event (JSON)
        7 counted (0: not the messages' fault)   8 error (JSON)   9 wait before the retry (ms, 0: none, and no trouble)
        10 turn id   11 message ids, each with a space before and after it
        12 one by one (0 or 1): its messages are in no turn with others any more

  Returns  1 recorded   2 recorded; the turn is to be cancelled or rolled back, so it does not wait   -1 not held any more
  Events  turn.failed
]]
--- @include "now"
--- @include "fence"
--- @include "event"
--- @include "serve-when-full"

if not holdsLease(KEYS[1], ARGV[1], ARGV[2]) then return -1 end
serveWhenFull(KEYS[2])
for index = 4, #KEYS do
  if ARGV[7] == '1' then redis.call('HINCRBY', KEYS[index], 'attempts', 1)
  elseif ARGV[9] ~= '0' then redis.call('HINCRBY', KEYS[index], 'troubles', 1) end
  redis.call('HSET', KEYS[index], 'state', 'accepted', 'error', ARGV[8])
  if ARGV[12] == '1' then redis.call('HSET', KEYS[index], 'single', 1) end
  redis.call('HDEL', KEYS[index], 'by', 'alone')
end
local session = redis.call('HMGET', KEYS[2], 'turn', 'cancel')
local marked = session[1] and session[1] == session[2]
-- It may have failed before it was started, for want of a sandbox: its retry can be cancelled, too.
if not marked then redis.call('HSET', KEYS[2], 'turn', ARGV[10], 'turnMessages', ARGV[11]) end
if ARGV[9] ~= '0' and not marked then
  redis.call('HSET', KEYS[2], 'retryAt', integer(nowMs() + tonumber(ARGV[9])))
end
addEvents(KEYS[3], ARGV[3], ARGV[4], ARGV[5], {ARGV[6]})
return marked and 2 or 1
