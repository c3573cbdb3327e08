--[[
  Marks the session's turn as cancelled: one that runs, or whose retry waits. Atomic with its start, its failure
  and the publication of its end, so that it is one or the other.

  KEYS  1 session   2 lease   3 events
  ARGV  1 turn id ('' for the one that there is)   2 events channel   3 events length   4 events TTL (ms)
        5 worker channel prefix   6 session id

  Returns
    {1, leased, turn id, message ids}   marked, now or before; leased is 1 where an activation is alive and was told
    {2, leased, turn id, ''}            that turn was cancelled before and has ended; nothing was changed
    {0}                                 there is no such turn (any more); nothing was changed
  Events  turn.cancelling, where it was not marked before
]]
--- @include "event"
--- @include "cancel"

local session = redis.call('HMGET', KEYS[1], 'turn', 'turnMessages', 'cancelled')
local turn = session[1]
if ARGV[1] ~= '' and ARGV[1] == session[3] then return {2, 0, session[3], ''} end
if not turn or (ARGV[1] ~= '' and ARGV[1] ~= turn) then return {0} end

markCancel(KEYS[1], turn, 'cancel', KEYS[3], ARGV[2], ARGV[3], ARGV[4])
local worker = redis.call('HGET', KEYS[2], 'worker')
if worker then redis.call('PUBLISH', ARGV[5] .. worker, ARGV[6]) end
return {1, worker and 1 or 0, turn, session[2]}
