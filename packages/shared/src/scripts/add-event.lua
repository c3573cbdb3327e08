--[[
  Appends one event.

  KEYS  1 events
  ARGV  1 events channel   2 events length   3 events TTL (ms)   4 event (JSON)

  Returns  1
]]
--- @include "event"

addEvent(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return 1
