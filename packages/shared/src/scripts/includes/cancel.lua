--[[
  markCancel(session, turn, mode, event...): marks the session's turn, so that whoever holds the session now or
  next does not finish it, and says so to the session's events. A retry that waits is due at once.

  Of the session's hash: `turn` is the turn that was started last and whose messages have not ended, `turnMessages`
  their ids, `cancel` the turn that is marked, `cancelMode` what becomes of it: 'cancel' ends its messages,
  'rollback' drops what it did and has its messages run again with what came behind them.
]]
local function markCancel(session, turn, mode, events, channel, length, ttl)
  local marked = redis.call('HMGET', session, 'cancel', 'cancelMode')
  redis.call('HDEL', session, 'retryAt')
  -- A sender's new message does not bring back what somebody has cancelled.
  if marked[1] == turn and (marked[2] == 'cancel' or marked[2] == mode) then return end
  redis.call('HSET', session, 'cancel', turn, 'cancelMode', mode)
  addEvents(events, channel, length, ttl, {cjson.encode({ type = 'turn.cancelling', turnId = turn, mode = mode })})
end
