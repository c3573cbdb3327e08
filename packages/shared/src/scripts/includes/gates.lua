--[[
  A gate lets so many turns of a tenant, or of one user of it, run at once. `inside`: sorted set of permits, and of
  `call:<session>` for room that is kept for one that waited, by when they expire (ms). `waiting`: sorted set of
  sessions by the age of their message. `index`: set of the names of gates where somebody waits.

  callWaiting(index, inside, waiting, name, limit, ttlMs, now, called): gives free room to those who wait longest, and
  appends them to `called`.
]]
local function callWaiting(index, inside, waiting, name, limit, ttlMs, now, called)
  redis.call('ZREMRANGEBYSCORE', inside, '-inf', now)
  if redis.call('EXISTS', waiting) == 0 then
    redis.call('SREM', index, name)
    return
  end
  local room = limit - redis.call('ZCARD', inside)
  if room > 0 then
    local first = redis.call('ZPOPMIN', waiting, room)
    for at = 1, #first, 2 do
      redis.call('ZADD', inside, integer(now + ttlMs), 'call:' .. first[at])
      called[#called + 1] = first[at]
    end
  end
  if redis.call('EXISTS', waiting) == 1 then redis.call('SADD', index, name) else redis.call('SREM', index, name) end
end
