--[[
  addEvent(eventsKey, channel, maxLength, ttlMs, json): appends to the session's events, capped (about) and
  expiring, and tells who listens that they grew. For several at once: appendEvent(eventsKey, maxLength, json) for each,
  then tellEvents(eventsKey, channel, ttlMs).
]]
local function appendEvent(eventsKey, maxLength, json)
  redis.call('XADD', eventsKey, 'MAXLEN', '~', maxLength, '*', 'e', json)
end

local function tellEvents(eventsKey, channel, ttlMs)
  redis.call('PEXPIRE', eventsKey, ttlMs)
  redis.call('PUBLISH', channel, '')
end

local function addEvent(eventsKey, channel, maxLength, ttlMs, json)
  appendEvent(eventsKey, maxLength, json)
  tellEvents(eventsKey, channel, ttlMs)
end
