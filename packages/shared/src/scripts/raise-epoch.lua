--[[
  Raises the epoch of a lease above that of the newest commit, where Redis came back with an older one.

  KEYS  1 lease   2 session
  ARGV  1 nonce   2 epoch held   3 epoch wanted

  Returns  1 raised   -1 not held any more
]]
--- @include "fence"
--- @include "serve-when-full"

if not holdsLease(KEYS[1], ARGV[1], ARGV[2]) then return -1 end
serveWhenFull(KEYS[2])
redis.call('HSET', KEYS[1], 'epoch', ARGV[3])
redis.call('HSET', KEYS[2], 'epoch', ARGV[3])
return 1
