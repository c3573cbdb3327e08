--[[
  Takes a session's lease with a new epoch (I5). Asked again by who has it, since a connection broke off, it says the same.

  KEYS  1 lease   2 session   3 mailbox   4 context
  ARGV  1 nonce of the activation   2 worker   3 time to live (ms)   4 alone on its worker (0 or 1)

  Returns
    {1, epoch, before, generation, left, mark, suspects, attempts, head, context}
                taken. before: 'clean' where the last holder released it, 'unclean' where it did not, 'unknown'
                where Redis knows of no holder. generation: the newest that was published, 0 where none is known.
                left: ids of the messages of a turn that was started and has not ended, '' where there is none;
                mark: 'cancel' or 'rollback' where that is to be done with it, else ''
                suspects, attempts: how many activations died that had the head before them and had not started its turn:
                among others on their worker, and alone on it
                head: entries of the mailbox, the first alone, or none; context: how many messages only add context
    {0, ms}     held by another activation for so long at least
    {-1, ms}    a retry is not due before so long
]]
--- @include "now"
--- @include "serve-when-full"

local held = redis.call('HMGET', KEYS[1], 'nonce', 'epoch', 'before')
if held[1] and held[1] ~= ARGV[1] then
  return {0, math.max(redis.call('PTTL', KEYS[1]), 1)}
end
local session = redis.call('HMGET', KEYS[2], 'epoch', 'released', 'generation', 'retryAt', 'turn', 'turnMessages',
  'cancel', 'cancelMode', 'opening', 'releasedUnclean')
local due = tonumber(session[4] or '0') - nowMs()
if due > 0 then return {-1, due} end

serveWhenFull(KEYS[2])
local before, epoch = held[3], tonumber(held[2])
if not held[1] then
  before = 'unknown'
  if session[1] then before = session[2] == session[1] and 'clean' or 'unclean' end
  epoch = redis.call('HINCRBY', KEYS[2], 'epoch', 1)
  redis.call('HSET', KEYS[1], 'nonce', ARGV[1], 'worker', ARGV[2], 'epoch', epoch, 'before', before)
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local mark = session[5] and session[5] == session[7] and session[8] or ''

-- What is to be opened for the head: '<its entry> <suspects> <attempts> <alone>'. A start of its turn ends it.
local head = redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', 1)
local suspects, attempts = 0, 0
if head[1] then
  local opened, others, alones, alone = string.match(session[9] or '', '^(%S+) (%d+) (%d+) (%d)$')
  if opened == head[1][1] then
    local died = not held[1] and before == 'unclean' and session[10] ~= session[1] and 1 or 0
    suspects = tonumber(others) + (alone == '0' and died or 0)
    attempts = tonumber(alones) + (alone == '1' and died or 0)
  end
  redis.call('HSET', KEYS[2], 'opening', head[1][1] .. ' ' .. suspects .. ' ' .. attempts .. ' ' .. ARGV[4])
end
return {1, epoch, before, tonumber(session[3] or '0'), session[6] or '', mark, suspects, attempts, head,
  redis.call('XLEN', KEYS[4])}
