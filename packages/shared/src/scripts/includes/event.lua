--[[
  addEvents(eventsKey, channel, maxLength, ttlMs, events): appends to the session's events (a table of JSON), capped (about) and
  expiring, and tells who listens that they grew and what they are (`readNews`), so that nobody has to read them. Scripts of
  many events, of which hardly anybody waits for one: appendEvent(eventsKey, maxLength, json) for each, then
  tellEvents(eventsKey, channel, ttlMs).
]]
local function appendEvent(eventsKey, maxLength, json)
  return redis.call('XADD', eventsKey, 'MAXLEN', '~', maxLength, '*', 'e', json)
end

local function tellEvents(eventsKey, channel, ttlMs, news)
  redis.call('PEXPIRE', eventsKey, ttlMs)
  redis.call('PUBLISH', channel, news or '')
end

local function addEvents(eventsKey, channel, maxLength, ttlMs, events)
  local newest = redis.call('XREVRANGE', eventsKey, '+', '-', 'COUNT', 1)[1]
  local news = {newest and newest[1] or '0'}
  for _, json in ipairs(events) do
    news[#news + 1] = appendEvent(eventsKey, maxLength, json)
    news[#news + 1] = json
  end
  tellEvents(eventsKey, channel, ttlMs, table.concat(news, '\n'))
end
