--[[
  Records that a reply is about to be sent, before it is: what becomes of a call without an answer can't be
  known, but that it was made can.

  KEYS  1 outbox   2 sending
  ARGV  1 reply id   2 TTL of what is recorded (ms)   3 may be sent again after a call of unknown outcome (0 or 1)

  Returns
    {1, attempts, ms}    in the outbox; attempts: calls so far, this one included; ms: since the first of them
    {-1, attempts, ms}   in the outbox; what became of the last call is not recorded, and it may not be made
                         again; attempts: calls so far. Nothing was changed
    {0}                  not in the outbox any more: nothing to send
]]
--- @include "now"
--- @include "serve-when-full"

if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {0} end
local now = nowMs()
local attempts, first, outcome = string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '', '^(%d+):(%d+):(%a+)$')
attempts = tonumber(attempts or '0')
first = tonumber(first or now)
local elapsed = math.max(now - first, 0)
if outcome == 'unknown' and ARGV[3] == '0' then return {-1, attempts, elapsed} end
serveWhenFull(KEYS[2])
redis.call('HSET', KEYS[2], ARGV[1], attempts + 1 .. ':' .. integer(first) .. ':unknown')
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return {1, attempts + 1, elapsed}
