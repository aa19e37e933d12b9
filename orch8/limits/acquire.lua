-- Grants or refuses a batch of requests, in order, each with all of its keys or none.
--
-- ARGV[4..]  number of limits, then per limit: key number, max (-1: none), window, '1' if longer
--            than 60 s, most calls in flight (-1: no bound), units after which a part of the window
--            is full (0: calls may come in a burst), for how many microseconds more a token is good
--            while less than half is used;
--            number of requests, then per request: number of limits, microseconds until its leases
--            run out by themselves, who holds them ('': nobody else knows), then limit number
--            and weight of each.
-- Returns    {} if the client must make certain of the time, else
--            {run, now, code, a, b, code, a, b, ...} with per request
--            GRANTED: a = counter of the first token (one token per unit, in order),
--                     b = 1 if a key has a lease, which must be given back; its name is that of
--                     its holder, or of the request's first token; 2 more if the tokens are good
--                     for longer
--            else:    a = number of the refusing limit, b = microseconds until the request could
--                     be granted if those refused before it on the same key go first; if it is HELD
--                     two more: how many of the places for calls in flight come free by and by,
--                     and how many microseconds a call takes on average (0: not known)

local GRANTED, FULL, HELD, BLOCKED, SPENT, REBUILD, CLOSED = 0, 1, 2, 3, 4, 5, 6
local REBUILD_RETRY = 1000000
-- Nobody knows when a call in flight will end. The guess is the average so far, between these.
local GUESS, LEAST_GUESS, MOST_GUESS = 100000, 10000, 10000000

local state = open_state()
if state.doubtful then
  save_state(state)
  return {}
end
local cursor = 4

local function next_number()
  local value = tonumber(ARGV[cursor])
  cursor = cursor + 1
  return value
end

local keys, limits = {}, {}
for number = 1, (#KEYS - 1) / 3 do
  keys[number] = open_key(number, state)
end
for number = 1, next_number() do
  local limit = { key = keys[next_number()], max = next_number(), window = next_number() }
  limit.long = next_number() == 1
  limit.most = next_number()
  limit.even = next_number()
  limit.calm = next_number()
  open_limit(limit, limit.key, state)
  if limit.most >= 0 or limit.key.room then
    limit.most = limit.most >= 0 and limit.most or math.huge
    limit.room = math.min(limit.most, limit.key.room or math.huge)
    limit.key.in_flight = limit.key.in_flight or count_held(limit.key, state)
  end
  limits[number] = limit
end
local requests_left = next_number()

-- When the unit at position (1 = oldest) was, or could be, granted: the log's entries in the span
-- (a limit's window, or the part of it that is going on), then this call's grants, then the units
-- already refused in this call.
local function time_of(span, position)
  local key = span.key
  if position > span.used + key.taken then
    return key.queue[position - span.used - key.taken]
  elseif position > span.used then
    return state.now
  end
  local page = span.page
  if not page or position < page.first or position >= page.first + page.size then
    local scores = redis.call('ZRANGEBYSCORE', key.log, '(' .. whole(state.now - span.window),
      '+inf', 'WITHSCORES', 'LIMIT', position - 1, requests_left)
    page = { first = position, size = requests_left, scores = scores }
    span.page = page
  end
  return tonumber(page.scores[2 * (position - page.first + 1)])
end

local function has_room(limit, weight)
  local key, part = limit.key, limit.part
  if limit.bucket then
    return key.level + weight <= limit.burst
  end
  return limit.used + key.taken + weight <= limit.max
    and (not part or part.used + key.taken < limit.even)
end

-- Why the window of limit refuses weight units now, and from when it would not.
local function window_refusal(limit, weight)
  local key = limit.key
  local ahead = #key.queue + weight
  if limit.spent then
    if limit.long then
      return REBUILD, state.now + REBUILD_RETRY
    end
    local free_at = key.since + limit.window + limit.calm
    if limit.bucket then
      return SPENT, free_at + math.max(0, (ahead - limit.burst) / key.rate)
    elseif ahead > limit.max then
      free_at = key.queue[ahead - limit.max] + limit.window
    end
    return SPENT, free_at
  end
  if not key.closed and has_room(limit, weight) then
    return nil
  end
  if limit.bucket then
    return FULL, key.at + math.max(0, (key.level + ahead - limit.burst) / key.rate)
  end
  -- Where there would be room, it is not before the request that closed the key.
  local free_at = key.queue[#key.queue] or 0
  local leaving = limit.used + key.taken + ahead - limit.max
  if leaving >= 1 then
    free_at = time_of(limit, leaving) + limit.window
  end
  local part = limit.part
  local passing = part and part.used + key.taken + #key.queue + 1 - limit.even or 0
  if passing >= 1 then
    free_at = math.max(free_at, time_of(part, passing) + part.window)
  end
  return FULL, free_at
end

-- Why the calls in flight refuse one more, and a guess from when they would not.
local function room_refusal(limit, holder)
  local key = limit.key
  if limit.most < math.huge and not key.held_known then
    return REBUILD, state.now + REBUILD_RETRY
  end
  -- Who asks is not in flight, whatever is known of it: the answer of before was lost, or a restore
  -- took its claim for a call.
  if holder ~= '' and key.in_flight > 0 then
    key.in_flight = key.in_flight - redis.call('ZREM', key.held, holder)
  end
  if not key.closed and key.in_flight + #key.leases / 2 < limit.room then
    return nil
  end
  local guess = (key.took or GUESS) * (key.waiting + 1) / turning(key, limit.room, state)
  return HELD, state.now + math.min(math.max(guess, LEAST_GUESS), MOST_GUESS)
end

-- Why limit refuses weight units now, and from when it would not; nil if it does not refuse.
local function refusal(limit, weight, holder)
  local key = limit.key
  if limit.max >= 0 and weight > limit.max then
    return CLOSED, state.now + limit.window
  end
  local code, free_at
  local function also(other, at)
    if other then
      code, free_at = math.max(code or other, other), math.max(free_at or at, at)
    end
  end
  if limit.max >= 0 then
    also(window_refusal(limit, weight))
  end
  if limit.room then
    also(room_refusal(limit, holder))
  end
  if state.now < key.blocked then
    also(BLOCKED, key.blocked)
  end
  return code, free_at
end

local replies = { state.run, whole(state.now) }
local function reply(code, a, b)
  local size = #replies
  replies[size + 1], replies[size + 2], replies[size + 3] = code, a, b
end

-- For how much longer a token of the limit is good: 0 if more than half is used with weight units
-- more.
local function calm_for(limit, weight)
  local key, calm = limit.key, limit.max < 0
  if limit.bucket then
    calm = 2 * (key.level + weight) <= limit.burst
  elseif not calm then
    calm = 2 * (limit.used + key.taken + weight) <= limit.max
  end
  return calm and limit.calm or 0
end

-- A token that is good for longer counts as granted so much later: it comes back later, and any
-- window holds no more than max, whenever in that time its call is sent.
local function grant(wanted, lease, holder, longer)
  local first, leased = state.counter + 1, 0
  local granted_at = whole(state.now + longer)
  if holder == '' then
    holder = state.run .. '.' .. whole(first)
  end
  for _, item in ipairs(wanted) do
    local key, limit = item.limit.key, item.limit
    if limit.room then
      leased = 1
      key.leases[#key.leases + 1] = whole(state.now + lease)
      key.leases[#key.leases + 1] = holder
      key.lease = math.max(key.lease, lease)
      key.shortest = math.min(key.shortest or lease, lease)
    end
    for _ = 1, item.weight do
      state.counter = state.counter + 1
      if limit.max >= 0 then
        local members = key.members
        members[#members + 1] = granted_at
        members[#members + 1] = state.run .. '.' .. whole(state.counter)
      end
    end
    if limit.max >= 0 then
      key.taken = key.taken + item.weight
      key.keep_now = math.max(key.keep_now or key.keep, limit.window)
      if key.level then
        key.level = key.level + item.weight
        key.at = math.max(key.at, state.now + longer)
        key.bucket_used = key.bucket_used or limit.bucket
      end
    end
  end
  reply(GRANTED, first, leased + (longer > 0 and 2 or 0))
end

local function refuse(lacking, free_at)
  -- The key that frees last is the one the request waits for.
  local last = lacking[1]
  for _, item in ipairs(lacking) do
    if item.code > last.code or (item.code == last.code and item.free_at > last.free_at) then
      last = item
    end
  end
  for _, item in ipairs(lacking) do
    -- A request that no wait helps must not hold up the others of its key.
    if last.code ~= CLOSED then
      local key = item.limit.key
      key.closed = true
      key.waiting = key.waiting + 1
      for _ = 1, item.weight do
        key.queue[#key.queue + 1] = free_at
      end
    end
  end
  reply(last.code, last.number, math.max(0, math.ceil(free_at - state.now)))
  if last.code == HELD then
    replies[#replies + 1] = turning(last.limit.key, last.limit.room, state)
    replies[#replies + 1] = math.floor(last.limit.key.took or 0)
  end
end

while requests_left > 0 do
  local wanted, lacking, free_at, longer = {}, {}, 0, math.huge
  local size, lease, holder = next_number(), next_number(), ARGV[cursor]
  cursor = cursor + 1
  for _ = 1, size do
    local number = next_number()
    local item = { number = number, limit = limits[number], weight = next_number() }
    wanted[#wanted + 1] = item
    item.code, item.free_at = refusal(item.limit, item.weight, holder)
    if item.code then
      lacking[#lacking + 1] = item
      free_at = math.max(free_at, item.free_at)
    else
      longer = math.min(longer, calm_for(item.limit, item.weight))
    end
  end
  if #lacking == 0 then
    grant(wanted, lease, holder, longer)
  else
    refuse(lacking, free_at)
  end
  requests_left = requests_left - 1
end

for _, key in ipairs(keys) do
  if key.taken > 0 then
    if key.keep_now > key.keep then
      key.keep = key.keep_now
      redis.call('HSET', key.meta, 'keep', whole(key.keep))
    end
    append(key, key.members, state)
    if key.bucket_used then
      save_bucket(key)
    elseif key.had_bucket then
      -- The bucket did not see these tokens; the log did, and the next bucket starts from it.
      redis.call('HDEL', key.meta, 'level', 'at', 'rate', 'epoch', 'low')
    end
  end
  if #key.leases > 0 then
    redis.call('ZADD', key.held, unpack(key.leases))
    redis.call('HSET', key.meta, 'lease', whole(key.lease), 'shortest', whole(key.shortest))
  end
  if key.taken > 0 or #key.leases > 0 then
    expire(key, state)
  end
end
save_state(state)
return replies
