--[[
  Appends events, in their order.

  KEYS  1 events
  ARGV  1 events channel   2 events length   3 events TTL (ms)   4.. events (JSON)

  Returns  1
]]
--- @include "event"

addEvents(KEYS[1], ARGV[1], ARGV[2], ARGV[3], {unpack(ARGV, 4)})
return 1
