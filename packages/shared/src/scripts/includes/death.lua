--[[
  countDeath(record, nonce, state, by, alone): what a message's record owes to the death of a worker that was at work on it. One that
  another activation left running is suspect: it may have killed that worker, or only have been on it. One that was
  alone on its worker has failed: that is an attempt. The last three are fields of the record. Gives the field that was
  raised, if any.
]]
local function countDeath(record, nonce, state, by, alone)
  if state ~= 'running' or by == nonce then return end
  local field = alone and 'attempts' or 'suspects'
  redis.call('HINCRBY', record, field, 1)
  redis.call('HSET', record, 'state', 'accepted')
  redis.call('HDEL', record, 'by', 'alone')
  return field
end
