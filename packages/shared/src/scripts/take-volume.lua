--[[
  Takes a volume for an activation, which alone writes it while it says so, or notes that its session waits for it, if it does.

  KEYS  1 lease of the volume   2 sessions that wait for it
  ARGV  1 nonce   2 session that waits where it is another one's, or ''   3 time to live (ms)   4 least epoch

  Returns  {1, epoch} taken, also anew by who has it   {0, ms} another one has it for so long at least
]]
--- @include "now"

local WAITS_MS = 600000
local now = nowMs()
local held = redis.call('HMGET', KEYS[1], 'nonce', 'until', 'epoch')
local left = tonumber(held[2] or '0') - now
if held[1] and held[1] ~= ARGV[1] and left > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - WAITS_MS)
  if ARGV[2] ~= '' then
    redis.call('ZADD', KEYS[2], now, ARGV[2])
    redis.call('PEXPIRE', KEYS[2], WAITS_MS)
  end
  return {0, left}
end
redis.call('ZREM', KEYS[2], ARGV[2])
local epoch = math.max(tonumber(held[3] or '0') + 1, tonumber(ARGV[4]))
redis.call('HSET', KEYS[1], 'nonce', ARGV[1], 'until', now + tonumber(ARGV[3]), 'epoch', epoch)
redis.call('PERSIST', KEYS[1])
return {1, epoch}
