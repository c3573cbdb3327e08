--[[
  addEvent(eventsKey, channel, maxLength, ttlMs, json): appends to the session's events, capped (about) and
  expiring, and tells who listens that they grew.
]]
local function addEvent(eventsKey, channel, maxLength, ttlMs, json)
  redis.call('XADD', eventsKey, 'MAXLEN', '~', maxLength, '*', 'e', json)
  redis.call('PEXPIRE', eventsKey, ttlMs)
  redis.call('PUBLISH', channel, '')
end
