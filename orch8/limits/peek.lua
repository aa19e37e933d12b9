-- Reads how full one key is, and changes nothing.
--
-- ARGV[4..]  max (-1: none), window, most calls in flight (-1: no bound)
-- Returns    {used, microseconds until one more unit could be granted, calls in flight, room for
--            calls in flight (-1: no bound), microseconds for which the provider wants none, how
--            many of the room's places come free by and by, how many microseconds a call takes on
--            average (0: not known)}

local state = open_state()
local key = open_key(1, state)
local limit = { max = tonumber(ARGV[4]), window = tonumber(ARGV[5]) }
local most = tonumber(ARGV[6])
open_limit(limit, key, state)

local used, free_at = limit.used or 0, state.now
if limit.spent then
  used, free_at = limit.max, key.since + limit.window
elseif limit.bucket then
  -- A bucket knows its level, not its window: its fill is shown as a share of max.
  used = math.min(limit.max, math.ceil(key.level * limit.max / limit.burst))
  free_at = state.now + math.max(0, (key.level + 1 - limit.burst) / key.rate)
elseif limit.max == 0 then
  free_at = state.now + limit.window
elseif limit.max > 0 and used >= limit.max then
  local entry = redis.call('ZRANGEBYSCORE', key.log, '(' .. whole(state.now - limit.window),
    '+inf', 'WITHSCORES', 'LIMIT', used - limit.max, 1)
  free_at = tonumber(entry[2]) + limit.window
end
free_at = math.max(free_at, key.blocked)
local room = math.min(most >= 0 and most or math.huge, key.room or math.huge)
return {
  used,
  math.max(0, math.ceil(free_at - state.now)),
  redis.call('ZCOUNT', key.held, '(' .. whole(state.now), '+inf'),
  room < math.huge and room or -1,
  math.max(0, math.ceil(key.blocked - state.now)),
  room < math.huge and turning(key, room, state) or -1,
  math.floor(key.took or 0),
}
