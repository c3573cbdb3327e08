--[[
  Takes the oldest ended messages that are too many out of the list of all: whoever asks at the same moment takes others.

  KEYS  1 ids of ended messages, the oldest first
  ARGV  1 how many may stay   2 how many to take at most

  Returns  their ids
]]
local excess = redis.call('LLEN', KEYS[1]) - tonumber(ARGV[1])
if excess <= 0 then return {} end
return redis.call('LPOP', KEYS[1], math.min(excess, tonumber(ARGV[2])))
