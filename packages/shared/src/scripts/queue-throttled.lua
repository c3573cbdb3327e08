--[[
  Puts a job at the end of its tenant's line of jobs that wait for the tenant's rate, unless it stands there.

  KEYS  1 line
  ARGV  1 job id

  Returns  how many stand before it
]]
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
  redis.call('ZADD', KEYS[1], tonumber(last[2] or '0') + 1, ARGV[1])
end
return redis.call('ZRANK', KEYS[1], ARGV[1])
