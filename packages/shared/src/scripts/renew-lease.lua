--[[
  Prolongs a lease.

  KEYS  1 lease
  ARGV  1 nonce   2 epoch   3 time to live (ms)

  Returns  1 prolonged   -1 not held any more
]]
--- @include "fence"

if not holdsLease(KEYS[1], ARGV[1], ARGV[2]) then return -1 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
