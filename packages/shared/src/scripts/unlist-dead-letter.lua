--[[
  Takes a dead reply off its tenant's list, unless it died again since it was looked at.

  KEYS  1 list   2 summaries
  ARGV  1 id   2 when it died, as the list said (ms)

  Returns  1 taken off   0 not on the list as it was
]]
local diedAt = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not diedAt or tonumber(diedAt) ~= tonumber(ARGV[2]) then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
