--[[
  Takes an empty session out of the pending index, unless a message was accepted since it was looked at.

  KEYS  1 shard of the pending index
  ARGV  1 session id   2 score that was seen

  Returns  1 taken out   0 changed meanwhile
]]
if redis.call('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
