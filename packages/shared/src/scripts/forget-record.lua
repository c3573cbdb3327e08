--[[
  Removes the record of a message that has ended.

  KEYS  1 message record

  Returns  1 removed   0 there is none, or the message has not ended
]]
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'answered' and state ~= 'dead' and state ~= 'cancelled' then return 0 end
return redis.call('UNLINK', KEYS[1])
