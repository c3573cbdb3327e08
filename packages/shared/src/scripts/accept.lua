--[[
  Accepts messages of one session, each as if it came alone: idempotency key, bound, append (I1, I2). Atomic on the
  session.

  KEYS  1 mailbox   2 session   3 lease   4 events   5.. message records
  ARGV  1 session id   2 tenant   3 agent   4 events channel   5 events length   6 events TTL (ms)
        7 worker channel prefix   8 when the session was put into the pending index (ms)
        9 how long ago that may be (ms)
        then for each record: message id, message (JSON), mailbox bound (messages), what to do where the session is
        at work: 'interrupt', 'rollback', 'reject', or '' (the message waits); and who says it where ('' for nobody)

  The first message by one of those that the session's turn asks is the answer: it waits for the turn to take it,
  also where the mailbox is full.

  Returns  leased (1 where an activation is alive and was told), then for each record three values
    1, seq, marked     appended; marked is 1 where a turn is to end for it, which may be one whose retry waits
    0, seq, state      known already; nothing was changed for it
    -1, messages, 0    the mailbox is full; nothing was changed for it
    -3, 0, 0           refused, since another message waits or is at work; nothing was changed for it
    -2, 0, 0           the index entry is so old that the sweeper may have removed it; nothing was
                       changed for it: index again
  Events  accepted, turn.cancelling
]]
--- @include "now"
--- @include "event"
--- @include "cancel"

local worker = redis.call('HGET', KEYS[3], 'worker')
local result = {worker and 1 or 0}
local now = nowUs()
local isIndexed = now / 1000 - tonumber(ARGV[8]) <= tonumber(ARGV[9])
local waiting = redis.call('XLEN', KEYS[1])
local session = redis.call('HMGET', KEYS[2], 'lastSeq', 'epoch', 'asking', 'askedOf', 'askingUntil', 'answers')
-- Above the last one also where the clock went back, and from the clock where the last one was forgotten.
local next = math.max(now, tonumber(session[1] or '0') + 1)
local acceptedAt = integer(math.floor(now / 1000))
local appended
local asking = session[3] and now / 1000 <= tonumber(session[5]) and session[3]

for index = 5, #KEYS do
  local record = KEYS[index]
  local at = 5 * index - 15
  local known = redis.call('HMGET', record, 'seq', 'state')
  local code, first, last = 1, 0, 0
  local answers = asking and ARGV[at + 4] ~= '' and string.find(session[4], ' ' .. ARGV[at + 4] .. ' ', 1, true)
  if known[1] then
    code, first, last = 0, known[1], known[2]
  elseif not isIndexed then
    code = -2
  elseif ARGV[at + 3] == 'reject' and waiting > 0 and not answers then
    code = -3
  elseif waiting >= tonumber(ARGV[at + 2]) and not answers then
    code, first = -1, waiting
  else
    local seq = integer(next)
    redis.call('XADD', KEYS[1], seq .. '-0', 'm', ARGV[at + 1])
    -- Where Redis had forgotten the message, publishing its commit left an ended record without a number, which expires.
    if known[2] then redis.call('DEL', record) end
    redis.call('HSET', record, 'seq', seq, 'state', 'accepted', 'acceptedAt', acceptedAt)
    appendEvent(KEYS[4], ARGV[5], '{"type":"accepted","messageId":"' .. ARGV[at] .. '"}')
    local turn = not answers and (ARGV[at + 3] == 'interrupt' or ARGV[at + 3] == 'rollback') and redis.call('HGET', KEYS[2], 'turn')
    if turn then
      last = 1
      markCancel(KEYS[2], turn, ARGV[at + 3] == 'interrupt' and 'cancel' or 'rollback', KEYS[4], ARGV[4], ARGV[5],
        ARGV[6])
    end
    if answers then
      redis.call('HSET', KEYS[2], 'answers', (session[6] or '') .. ' ' .. asking .. ':' .. seq)
      redis.call('HDEL', KEYS[2], 'asking', 'askedOf', 'askingUntil')
      asking = false
    end
    first = seq
    appended = seq
    next = next + 1
    waiting = waiting + 1
  end
  result[#result + 1] = code
  result[#result + 1] = first
  result[#result + 1] = last
end

if appended then
  redis.call('HSET', KEYS[2], 'lastSeq', appended, 'tenant', ARGV[2], 'agent', ARGV[3])
  -- It expires only after a release, so it had an epoch then.
  if session[2] then redis.call('PERSIST', KEYS[2]) end
  tellEvents(KEYS[4], ARGV[4], ARGV[6])
end
if worker then redis.call('PUBLISH', ARGV[7] .. worker, ARGV[1]) end
return result
