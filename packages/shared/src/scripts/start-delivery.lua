--[[
  Records that a reply is about to be sent, before it is: what becomes of a call without an answer can't be
  known, but that it was made can.

  KEYS  1 outbox   2 sending
  ARGV  1 reply id   2 TTL of what is recorded (ms)

  Returns
    {1, attempts, ms}   in the outbox; attempts: calls so far, this one included; ms: since the first of them
    {0}                 not in the outbox any more: nothing to send
]]
--- @include "now"

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0} end
local now = nowMs()
local attempts, first = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^(%d+):(%d+)$')
attempts = tonumber(attempts or '0') + 1
first = tonumber(first or now)
redis.call('HSET', KEYS[2], ARGV[1], attempts .. ':' .. integer(first))
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {1, attempts, math.max(now - first, 0)}
