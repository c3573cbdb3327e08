--[[
  Marks the messages of a turn as running.

  KEYS  1 lease   2 session   3 events   4.. message records
  ARGV  1 nonce   2 epoch   3 events channel   4 events length   5 events TTL (ms)   6 event (JSON)
        7 turn id   8 message ids, each with a space before and after it
        9 alone on its worker (0 or 1): the worker's death is the messages' fault

  Returns
    {1, attempts...}     failed attempts so far, one a message
    {2, message ids}     one of its messages was in a turn that is cancelled, with these; nothing was changed
    {-1}                 not held any more
  Events  turn.started
]]
--- @include "fence"
--- @include "event"
--- @include "death"
--- @include "serve-when-full"

if not holdsLease(KEYS[1], ARGV[1], ARGV[2]) then return {-1} end
serveWhenFull(KEYS[2])

local left = redis.call('HMGET', KEYS[2], 'turn', 'turnMessages', 'cancel', 'cancelMode')
if left[1] and left[1] == left[3] and left[4] == 'cancel' and left[1] ~= ARGV[7] then
  for id in string.gmatch(left[2], '%S+') do
    if string.find(ARGV[8], ' ' .. id .. ' ', 1, true) then return {2, left[2]} end
  end
end

local result = {1}
for index = 4, #KEYS do
  local found = redis.call('HMGET', KEYS[index], 'state', 'by', 'alone', 'attempts')
  local raised = countDeath(KEYS[index], ARGV[1], found[1], found[2], found[3])
  redis.call('HSET', KEYS[index], 'state', 'running', 'by', ARGV[1])
  if ARGV[9] == '1' then redis.call('HSET', KEYS[index], 'alone', 1) end
  result[#result + 1] = tonumber(found[4] or '0') + (raised == 'attempts' and 1 or 0)
end
redis.call('HDEL', KEYS[2], 'retryAt', 'cancel', 'cancelMode', 'asking', 'askedOf', 'askingUntil', 'opening')
redis.call('HSET', KEYS[2], 'turn', ARGV[7], 'turnMessages', ARGV[8])
addEvents(KEYS[3], ARGV[3], ARGV[4], ARGV[5], {ARGV[6]})
return result
