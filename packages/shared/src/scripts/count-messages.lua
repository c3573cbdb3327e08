--[[
  Counts messages of a tenant within its limit for a minute: a window that slides by seconds, so that in no 60 seconds
  more are admitted than the limit.

  KEYS  1 counts: a hash of messages by second, with `total`, and `from` (no second before it has any)
  ARGV  1 messages (negative: so many that were counted were none)   2 limit

  Returns  {admitted, ms until there is room for one more, 0 where there is}
]]
--- @include "now"

local WINDOW = 60
local ms = nowMs()
local now = math.floor(ms / 1000)
local known = redis.call('HMGET', KEYS[1], 'from', 'total')
local from = tonumber(known[1] or now)
local total = tonumber(known[2] or '0')
if now - from >= 2 * WINDOW or from > now + WINDOW then
  -- Nothing for long, or the clock went back.
  redis.call('DEL', KEYS[1])
  from = now
  total = 0
end
while from <= now - WINDOW do
  total = total - tonumber(redis.call('HGET', KEYS[1], from) or '0')
  redis.call('HDEL', KEYS[1], from)
  from = from + 1
end

local admitted = math.min(tonumber(ARGV[1]), math.max(tonumber(ARGV[2]) - total, 0))
if admitted ~= 0 then redis.call('HINCRBY', KEYS[1], now, admitted) end
total = total + admitted
redis.call('HSET', KEYS[1], 'from', from, 'total', total)
redis.call('PEXPIRE', KEYS[1], 2 * WINDOW * 1000)

local wait = 0
if total >= tonumber(ARGV[2]) then
  local oldest = from
  while oldest < now and tonumber(redis.call('HGET', KEYS[1], oldest) or '0') <= 0 do oldest = oldest + 1 end
  wait = (oldest + WINDOW) * 1000 - ms
end
return {admitted, wait}
