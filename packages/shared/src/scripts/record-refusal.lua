--[[
  Records that the last call for a reply was not taken, for certain: it may be made again.

  KEYS  1 sending
  ARGV  1 reply id

  Returns  1 recorded   0 no call is recorded
]]
--- @include "serve-when-full"

local recorded = redis.call('HGET', KEYS[1], ARGV[1])
if not recorded then return 0 end
serveWhenFull(KEYS[1])
redis.call('HSET', KEYS[1], ARGV[1], (string.gsub(recorded, '%a+$', 'refused')))
return 1
