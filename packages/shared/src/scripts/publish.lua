--[[
  After a commit, in one step: its replies go to the outbox and the messages that it ends leave the mailbox,
  by id (I5, I6). Idempotent: publishing a generation again adds nothing twice.

  KEYS  1 lease   2 session   3 mailbox   4 outbox   5 replies   6 delivered   7 events   8 context
        9.. message records
  ARGV  1 nonce   2 epoch   3 generation   4 TTL of a terminal record (ms)   5 events channel
        6 events length   7 events TTL (ms)   8 context that the commit says was dropped
        9 id of the question that one of the replies asks, or ''   10 of whom, each with a space before and after it
        11 for how long (ms)   12 its event (JSON)   13 number of replies R
        then R times: reply id, place in the order, reply (JSON)
        then for each record: message id, outcome, error (JSON or '')

  Returns  how many messages that wake wait now   -1 not held any more; nothing was changed
  Events  message.ended for each message that was not ended before; question
]]
--- @include "now"
--- @include "fence"
--- @include "event"
--- @include "serve-when-full"

if not holdsLease(KEYS[1], ARGV[1], ARGV[2]) then return -1 end
serveWhenFull(KEYS[2])

local at = 14
for _ = 1, tonumber(ARGV[13]) do
  local id = ARGV[at]
  if not redis.call('ZSCORE', KEYS[6], id) and redis.call('HSETNX', KEYS[5], id, ARGV[at + 2]) == 1 then
    redis.call('ZADD', KEYS[4], ARGV[at + 1], id)
  end
  at = at + 3
end

local left = redis.call('HMGET', KEYS[2], 'turn', 'turnMessages', 'generation')
local endedAt = integer(nowMs())
local ended = false
for index = 9, #KEYS do
  local record = redis.call('HMGET', KEYS[index], 'seq', 'state')
  if record[1] and redis.call('XDEL', KEYS[3], record[1] .. '-0') == 0 then
    redis.call('XDEL', KEYS[8], record[1] .. '-0')
  end
  if record[2] ~= 'answered' and record[2] ~= 'dead' and record[2] ~= 'cancelled' then
    redis.call('HSET', KEYS[index], 'state', ARGV[at + 1], 'generation', ARGV[3], 'endedAt', endedAt)
    redis.call('HDEL', KEYS[index], 'by', 'alone', 'error')
    if ARGV[at + 2] ~= '' then redis.call('HSET', KEYS[index], 'error', ARGV[at + 2]) end
    redis.call('PEXPIRE', KEYS[index], ARGV[4])
    appendEvent(KEYS[7], ARGV[6], '{"type":"message.ended","messageId":"' .. ARGV[at] .. '","outcome":"' .. ARGV[at + 1]
      .. '","generation":' .. ARGV[3] .. '}')
    ended = true
  end
  -- With one of its messages the turn has ended: nothing of it is left to be cancelled.
  if left[1] and string.find(left[2], ' ' .. ARGV[at] .. ' ', 1, true) then
    redis.call('HDEL', KEYS[2], 'turn', 'turnMessages', 'cancel', 'cancelMode', 'asking', 'askedOf', 'askingUntil', 'answers')
    if ARGV[at + 1] == 'cancelled' then redis.call('HSET', KEYS[2], 'cancelled', left[1]) end
    left[1] = false
  end
  at = at + 3
end
-- Whoever reads it can answer, and nobody before.
if ARGV[9] ~= '' then
  redis.call('HSET', KEYS[2], 'asking', ARGV[9], 'askedOf', ARGV[10], 'askingUntil', integer(nowMs() + tonumber(ARGV[11])))
  appendEvent(KEYS[7], ARGV[6], ARGV[12])
  ended = true
end
if ended then tellEvents(KEYS[7], ARGV[5], ARGV[7]) end

local generation = tonumber(left[3] or '0')
if ARGV[8] ~= '0' and tonumber(ARGV[3]) > generation then
  local dropped = tonumber(redis.call('HGET', KEYS[2], 'contextDropped') or '0') - tonumber(ARGV[8])
  if dropped > 0 then redis.call('HSET', KEYS[2], 'contextDropped', integer(dropped))
  else redis.call('HDEL', KEYS[2], 'contextDropped') end
end
redis.call('HSET', KEYS[2], 'generation', integer(math.max(generation, tonumber(ARGV[3]))))
return redis.call('XLEN', KEYS[3])
