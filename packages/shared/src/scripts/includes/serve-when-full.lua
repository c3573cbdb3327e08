--[[
  serveWhenFull(hash): lets the rest of a script write although Redis has reached its maxmemory. Redis refuses a
  script at the first of its writes that may need memory, and only there, so that no script is left half done; a
  deletion, even of nothing, never needs any. For scripts that bring to an end what was accepted, by which memory
  becomes free; a script that takes in more must not call it.
]]
local function serveWhenFull(hash)
  redis.call('HDEL', hash, '')
end
