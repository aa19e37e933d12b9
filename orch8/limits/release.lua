-- Takes the tokens and leases of calls that were not made back out of their keys; one that is not
-- there any more changes nothing.
--
-- ARGV[4..]  per key: number of leases, the leases, number of tokens, the tokens
-- Returns    how many tokens and leases went back

local state = open_state()
local cursor, returned = 4, 0

-- A token leaves the bucket only if the level has stayed high enough without it ever since:
-- what has leaked out at the bottom cannot be given back, or two calls would share one token.
local function refund(key, granted_at)
  if granted_at >= key.epoch and key.level >= 1 and key.low >= 1 then
    key.level = key.level - 1
    key.low = key.low - 1
  end
end

for number = 1, (#KEYS - 1) / 3 do
  local key = open_key(number, state)
  for _ = 1, tonumber(ARGV[cursor]) do
    cursor = cursor + 1
    returned = returned + redis.call('ZREM', key.held, ARGV[cursor])
  end
  cursor = cursor + 1
  if key.had_bucket then
    leak(key, state)
    key.low = math.min(key.low, key.level)  -- leak() forgets it when a new epoch starts
  end
  for _ = 1, tonumber(ARGV[cursor]) do
    cursor = cursor + 1
    local granted_at = redis.call('ZSCORE', key.log, ARGV[cursor])
    if granted_at then
      redis.call('ZREM', key.log, ARGV[cursor])
      returned = returned + 1
      if key.had_bucket then
        refund(key, tonumber(granted_at))
      end
    end
  end
  cursor = cursor + 1
  if key.had_bucket then
    save_bucket(key)
  end
end
save_state(state)
return returned
