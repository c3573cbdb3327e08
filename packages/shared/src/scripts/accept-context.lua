--[[
  Accepts a message that only adds context: beside the mailbox, in the same order, waking nobody. Bounded by count and
  age: the oldest are dropped, which ends them.

  KEYS  1 context   2 message record   3 session   4 events   5.. records of the messages that are dropped
  ARGV  1 message id   2 message (JSON)   3 tenant   4 agent   5 bound (messages)   6 how long they are kept (ms)
        7 events channel   8 events length   9 events TTL (ms)   10 TTL of a terminal record (ms)
        11 TTL of an idle session (ms)   12 error of a dropped message (JSON)   13.. numbers of those that are dropped

  Returns
    {1, seq}                          appended
    {0, seq, state}                   known already; nothing was changed
    {-1, then for each: seq, id}      these have to be dropped with it; nothing was changed: call again naming them
  Events  accepted
]]
--- @include "now"
--- @include "event"

local known = redis.call('HMGET', KEYS[2], 'seq', 'state')
if known[1] then return {0, known[1], known[2]} end

local now = nowUs()
local beyond = redis.call('XLEN', KEYS[1]) - tonumber(ARGV[5]) + 1
local oldest = now - tonumber(ARGV[6]) * 1000
local named = true
local drop = {-1}
for index, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', math.max(beyond, 100))) do
  local seq = string.match(entry[1], '^%d+')
  if index > beyond and tonumber(seq) >= oldest then break end
  if ARGV[12 + index] ~= seq then named = false end
  drop[#drop + 1] = seq
  drop[#drop + 1] = entry[2][4]
end
if not named then return drop end

local nowMsText = integer(math.floor(now / 1000))
for index = 5, 4 + (#drop - 1) / 2 do
  redis.call('XDEL', KEYS[1], ARGV[8 + index] .. '-0')
  redis.call('HSET', KEYS[index], 'state', 'cancelled', 'endedAt', nowMsText, 'error', ARGV[12])
  redis.call('PEXPIRE', KEYS[index], ARGV[10])
  redis.call('HINCRBY', KEYS[3], 'contextDropped', 1)
end

-- A session of which nothing else is known is kept like an idle one; the others have a time to live, or none.
local isNew = redis.call('EXISTS', KEYS[3]) == 0
local last = tonumber(redis.call('HGET', KEYS[3], 'lastSeq') or '0')
local seq = integer(math.max(now, last + 1))
redis.call('XADD', KEYS[1], seq .. '-0', 'm', ARGV[2], 'i', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[6])
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], 'seq', seq, 'state', 'accepted', 'acceptedAt', nowMsText, 'attempts', 0)
redis.call('PEXPIRE', KEYS[2], integer(tonumber(ARGV[6]) + tonumber(ARGV[10])))
redis.call('HSET', KEYS[3], 'lastSeq', seq, 'tenant', ARGV[3], 'agent', ARGV[4])
if isNew then redis.call('PEXPIRE', KEYS[3], ARGV[11]) end
addEvents(KEYS[4], ARGV[7], ARGV[8], ARGV[9], {cjson.encode({ type = 'accepted', messageId = ARGV[1] })})
return {1, seq}
