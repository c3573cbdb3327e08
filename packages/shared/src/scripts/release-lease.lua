--[[
  Releases a lease: where that is clean the next activation needs no takeover record. Only where nothing waits
  and all that was committed is published; with handback also while messages wait (drain, a retry that waits).

  KEYS  1 lease   2 session   3 mailbox
  ARGV  1 nonce   2 epoch   3 newest generation committed   4 handback (0 or 1)   5 TTL of an idle session (ms)
        6 clean (0: a commit of this activation may still become visible)

  Returns  1 released   0 messages wait: serve on   -1 not held any more   -2 a generation is not published
]]
--- @include "fence"
--- @include "serve-when-full"

if not holdsLease(KEYS[1], ARGV[1], ARGV[2]) then return -1 end
serveWhenFull(KEYS[2])
if tonumber(ARGV[3]) > tonumber(redis.call('HGET', KEYS[2], 'generation') or '0') then return -2 end
local waiting = redis.call('XLEN', KEYS[3])
if waiting > 0 and ARGV[4] == '0' then return 0 end

-- Whoever says that it is not clean has not died all the same.
redis.call('HSET', KEYS[2], ARGV[6] == '1' and 'released' or 'releasedUnclean', ARGV[2])
redis.call('DEL', KEYS[1])
if waiting == 0 and ARGV[6] == '1' then
  -- `lastSeq` keeps the numbers rising; an empty stream has nothing else to tell.
  redis.call('DEL', KEYS[3])
  redis.call('HDEL', KEYS[2], 'opening')
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
return 1
