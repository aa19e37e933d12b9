-- Keeps the leases of calls that are still in flight: they run out later, and are there again if
-- they had run out or were lost.
--
-- ARGV[4..]  per key: number of leases, then per lease in how many microseconds it runs out by
--            itself, and its name
-- Returns    how many leases there are

local state = open_state()
local cursor, kept = 4, 0

for number = 1, (#KEYS - 1) / 3 do
  local key = open_key(number, state)
  local leases = {}
  for _ = 1, tonumber(ARGV[cursor]) do
    local lease, name = tonumber(ARGV[cursor + 1]), ARGV[cursor + 2]
    leases[#leases + 1] = whole(state.now + lease)
    leases[#leases + 1] = name
    key.lease = math.max(key.lease, lease)
    cursor = cursor + 2
    kept = kept + 1
  end
  cursor = cursor + 1
  redis.call('ZADD', key.held, unpack(leases))
  redis.call('HSET', key.meta, 'lease', whole(key.lease))
  expire(key, state)
end
save_state(state)
return kept
