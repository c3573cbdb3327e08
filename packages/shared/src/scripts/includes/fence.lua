--[[
  holdsLease(leaseKey, nonce, epoch): whether this activation still is the one that holds the session (I5).
  The nonce tells activations apart that got the same epoch from a Redis that came back with older data.
]]
local function holdsLease(leaseKey, nonce, epoch)
  local lease = redis.call('HMGET', leaseKey, 'nonce', 'epoch')
  return lease[1] == nonce and lease[2] == epoch
end
