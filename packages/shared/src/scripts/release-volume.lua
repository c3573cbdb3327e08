--[[
  Gives a volume back. The epoch stays for a while; the store knows it, too.

  KEYS  1 lease of the volume   2 sessions that wait for it
  ARGV  1 nonce   2 time to live of what is left (ms)

  Returns  the sessions that waited: they are to be woken
]]

if redis.call('HGET', KEYS[1], 'nonce') ~= ARGV[1] then return {} end
redis.call('HDEL', KEYS[1], 'nonce', 'until')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local waiting = redis.call('ZRANGE', KEYS[2], 0, -1)
redis.call('DEL', KEYS[2])
return waiting
