--[[
  countDeath(record, nonce): what a message's record owes to the death of a worker that was at work on it. One that
  another activation left running is suspect: it may have killed that worker, or only have been on it. One that was
  alone on its worker has failed: that is an attempt.
]]
local function countDeath(record, nonce)
  local found = redis.call('HMGET', record, 'state', 'by', 'alone')
  if found[1] ~= 'running' or found[2] == nonce then return end
  redis.call('HINCRBY', record, found[3] and 'attempts' or 'suspects', 1)
  redis.call('HSET', record, 'state', 'accepted')
  redis.call('HDEL', record, 'by', 'alone')
end
