-- Takes in what came of calls: leases go back, and what the provider said of its keys is noted.
--
-- ARGV[4..]  per key: number of leases, then the leases; number of calls that succeeded; most calls
--            in flight that are stated (-1: none); microseconds for which the provider wants no
--            calls (0: it does not say); calls that were in flight when it found them too many
--            (0: it did not); microseconds since the first call so refused was sent; how long the
--            calls took on average (0: not known)
-- Returns    how many leases went back

-- The room of a key (AIMD): halved when the provider says that too much is going on at once, one
-- more for each room-full of calls that succeed. It is forgotten when it is all that is stated.
local MOST_ROOM = 1000
local LONGEST_BLOCK = 3600000000

local state = open_state()
local cursor, returned = 4, 0

local function next_number()
  local value = tonumber(ARGV[cursor])
  cursor = cursor + 1
  return value
end

local function cut(key, in_flight, sent_ago)
  local cut_at = tonumber(redis.call('HGET', key.meta, 'cut_at') or 0)
  if state.now - sent_ago < cut_at then
    return  -- sent before the last cut: it says nothing about the room since
  end
  local room = math.max(1, math.floor(math.min(key.room or math.huge, in_flight) / 2))
  redis.call('HSET', key.meta, 'room', whole(room), 'streak', 0, 'cut_at', whole(state.now))
end

local function grow(key, succeeded, most)
  local streak = tonumber(redis.call('HGET', key.meta, 'streak') or 0) + succeeded
  local room = key.room
  while streak >= room do
    streak, room = streak - room, room + 1
  end
  if room >= (most >= 0 and most or MOST_ROOM) then
    redis.call('HDEL', key.meta, 'room', 'streak', 'cut_at')
  else
    redis.call('HSET', key.meta, 'room', whole(room), 'streak', whole(streak))
  end
end

for number = 1, (#KEYS - 1) / 3 do
  local key = open_key(number, state)
  local leases = {}
  for position = 1, next_number() do
    leases[position] = ARGV[cursor]
    cursor = cursor + 1
  end
  local succeeded, most, block = next_number(), next_number(), next_number()
  local in_flight, sent_ago, took = next_number(), next_number(), next_number()
  if in_flight > 0 then
    cut(key, math.max(in_flight, count_held(key, state)), sent_ago)
  elseif succeeded > 0 and key.room then
    grow(key, succeeded, most)
  end
  if #leases > 0 then
    returned = returned + redis.call('ZREM', key.held, unpack(leases))
  end
  if took > 0 then
    key.took = key.took and 0.8 * key.took + 0.2 * took or took
    redis.call('HSET', key.meta, 'took', whole(key.took))
  end
  if block > 0 then
    key.blocked = math.max(key.blocked, state.now + math.min(block, LONGEST_BLOCK))
    redis.call('HSET', key.meta, 'blocked', whole(key.blocked))
  end
  expire(key, state)
end
save_state(state)
return returned
