-- Replaces the history of one key by what the database knows, after the server lost its own.
--
-- ARGV[4..]  window (0: the window is not restored), number of units spent within it, number of
--            calls in flight (-1: they are not restored), microseconds until those must have
--            ended, the holders of their leases, then the ages of the newest units
-- Returns    1, or 0 if the key's history is known already (another process was faster)

local state = open_state()
local key = open_key(1, state)
local window, spent = tonumber(ARGV[4]), tonumber(ARGV[5])
local in_flight, lease = tonumber(ARGV[6]), tonumber(ARGV[7])

local function restore_window()
  local members = {}
  for argument = 8 + math.max(in_flight, 0), #ARGV do
    state.counter = state.counter + 1
    members[#members + 1] = whole(state.now - tonumber(ARGV[argument]))
    members[#members + 1] = state.run .. '.' .. whole(state.counter)
  end
  redis.call('DEL', key.log)
  redis.call('HDEL', key.meta, 'level', 'at', 'rate', 'epoch', 'low')
  key.keep = window
  redis.call('HSET', key.meta, 'keep', whole(window), 'run', state.run,
    'since', whole(state.now - window))
  append(key, members, state)
  if spent > LOG_MAX then
    key.level, key.at, key.rate, key.epoch, key.low = spent, state.now, 0, state.now, 0
    save_bucket(key)
  end
end

local function restore_held()
  for argument = 8, 7 + in_flight do
    redis.call('ZADD', key.held, 'NX', whole(state.now + lease), ARGV[argument])
  end
  key.lease = math.max(key.lease, lease)
  redis.call('HSET', key.meta, 'held_run', state.run, 'lease', whole(key.lease))
end

local restored = 0
if window > 0 and state.now < key.since + window then
  restore_window()
  restored = 1
end
if in_flight >= 0 and not key.held_known then
  restore_held()
  restored = 1
end
if restored == 1 then
  expire(key, state)
end
save_state(state)
return restored
