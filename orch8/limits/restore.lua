-- Replaces the history of one key by what the database knows, after the server lost its own.
--
-- ARGV[4..]  window, number of units spent within it, then the ages of the newest of them
-- Returns    1, or 0 if the key's history is known already (another process was faster)

local state = open_state()
local key = open_key(1, state)
local window, spent = tonumber(ARGV[4]), tonumber(ARGV[5])

if state.now >= key.since + window then
  save_state(state)
  return 0
end
local members = {}
for argument = 6, #ARGV do
  state.counter = state.counter + 1
  members[#members + 1] = whole(state.now - tonumber(ARGV[argument]))
  members[#members + 1] = state.run .. '.' .. whole(state.counter)
end
redis.call('DEL', key.log, key.meta)
key.keep = window
redis.call('HSET', key.meta, 'keep', whole(window), 'run', state.run,
  'since', whole(state.now - window))
append(key, members, state)
if spent > LOG_MAX then
  key.level, key.at, key.rate, key.epoch, key.low = spent, state.now, 0, state.now, 0
  save_bucket(key)
end
expire(key)
save_state(state)
return 1
