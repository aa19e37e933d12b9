-- Prelude of every script: the tenant's state (sentinel, clock, counter) and how a limit is read.
--
-- KEYS[1]          state hash: run, server, born_at, seen_at, counter, offset, skipped
-- KEYS[3j-1], [3j], [3j+1]  key number j: its log (sorted set: token -> time), its meta hash, and
--                  what is held of it (sorted set: lease of a call in flight -> when it expires)
-- ARGV[1]          three words: time override in microseconds, '-' = the server's own clock (see
--                  Limiter(clock=)); then between which times this script runs by its client's own
--                  clock, '-' = it does not know, the last 'stepped' = the client is certain that
--                  the server's clock has been put ahead
-- ARGV[2]          identity of the server process the client is connected to, '' = unknown
-- ARGV[3]          random id, becomes the state's run if the sentinel is missing or of another server
-- All times and durations here are microseconds; Lua's doubles hold them exactly until the year 2255.

local LOG_MAX = 1000            -- entries kept per key; a limit above this is decided by a bucket
local BURST_DIVISOR = 10        -- bucket: burst = max / 10, rate = (max - burst) / window
local PARTS = 8                 -- of a window in which calls come evenly
local EPOCH = 1000000           -- how long the bucket's low-water mark is followed, see release.lua
local EXPIRY_MARGIN_MS = 60000  -- keys outlive their longest window by this
local LONGEST_LEASE = 3600000000  -- an hour: after that no lease of a lost server is still held
local OVERRIDE_MARGIN_MS = 3600000  -- with a time override the server's expiry must not interfere

-- A call is stuck that takes so many times as long as calls do on average, and so long at least.
local STUCK, LEAST_STUCK = 4, 1000000

local OVERRIDE, LEAST, MOST = string.match(ARGV[1], '(%S+) (%S+) (%S+)')

local function whole(number)
  return string.format('%.0f', number)
end

-- The time that counts is the server's and an offset. It never goes back: from where the server's
-- clock is put back it goes on, and no window ends early. Where that clock is put ahead, only the
-- client can tell. It may also be this script that is late, of a client that has given up long ago;
-- so nothing is granted until the client has made certain. As much as was skipped may be missing
-- from the lives of keys, since Redis counts those by its own clock.
local function set_clock(state, seen_at)
  local ahead = state.raw + state.offset
  local least = math.max(seen_at, tonumber(LEAST) or 0)
  local most = tonumber(MOST) or math.huge
  state.now = math.max(ahead, least)
  if MOST == 'stepped' then
    state.skipped = state.skipped + state.now - least
    state.now = least
  elseif ahead > most then
    state.doubtful, state.now = true, least
  end
end

local function open_state()
  local raw
  if OVERRIDE ~= '-' then
    raw = tonumber(OVERRIDE)
  else
    local clock = redis.call('TIME')
    raw = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
  end
  local found = redis.call('HMGET', KEYS[1], 'run', 'server', 'born_at', 'seen_at', 'counter',
    'offset', 'skipped')
  local state = {
    raw = raw,
    counter = tonumber(found[5] or 0),
    run = found[1],
    born_at = tonumber(found[3] or 0),
    offset = tonumber(found[6] or 0),
    skipped = tonumber(found[7] or 0),
  }
  set_clock(state, tonumber(found[4] or 0))
  if not found[1] or (ARGV[2] ~= '' and found[2] ~= ARGV[2])
    or state.skipped > EXPIRY_MARGIN_MS * 1000 then
    state.run, state.born_at, state.born, state.skipped = ARGV[3], state.now, true, 0
  end
  return state
end

local function save_state(state)
  if state.born then
    redis.call('HSET', KEYS[1], 'run', state.run, 'server', ARGV[2],
      'born_at', whole(state.born_at))
  end
  local offset = state.doubtful and state.offset or state.now - state.raw
  redis.call('HSET', KEYS[1], 'seen_at', whole(state.now), 'counter', whole(state.counter),
    'offset', whole(offset), 'skipped', whole(state.skipped))
end

local function open_key(number, state)
  local key = {
    log = KEYS[3 * number - 1], meta = KEYS[3 * number], held = KEYS[3 * number + 1],
    taken = 0,    -- units granted in this call
    leases = {},  -- leases granted in this call, as ZADD wants them
    waiting = 0,  -- requests refused in this call
    queue = {},   -- when each unit refused in this call could be granted, in order
    closed = false,
    members = {},
  }
  local found = redis.call('HMGET', key.meta, 'keep', 'run', 'since', 'level', 'at', 'rate', 'epoch',
    'low', 'held_run', 'lease', 'blocked', 'room', 'took', 'shortest')
  key.keep = tonumber(found[1] or 0)
  -- The log is complete from here on: the birth of the state, or what a restore has added.
  key.since = found[2] == state.run and tonumber(found[3]) or state.born_at
  key.level = tonumber(found[4] or nil)
  key.at = tonumber(found[5] or 0)
  key.rate = tonumber(found[6] or 0)
  key.epoch = tonumber(found[7] or 0)
  key.low = tonumber(found[8] or 0)
  key.had_bucket = key.level ~= nil
  -- Whether every call in flight has a lease here, or had one that must be over by now.
  key.held_known = found[9] == state.run or state.now >= state.born_at + LONGEST_LEASE
  key.lease = tonumber(found[10] or 0)
  key.blocked = tonumber(found[11] or 0)  -- the provider wants no call before this
  key.room = tonumber(found[12] or nil)   -- calls in flight that it seems to stand, see ended.lua
  key.took = tonumber(found[13] or nil)   -- how long a call takes, on average
  key.shortest = tonumber(found[14] or nil)  -- the shortest lease of a call
  return key
end

-- How many calls are in flight; leases that ran out, of processes that are gone, are not counted.
local function count_held(key, state)
  redis.call('ZREMRANGEBYSCORE', key.held, '-inf', whole(state.now))
  return redis.call('ZCARD', key.held)
end

-- How many places of a room for calls in flight come free as calls end. Those of calls that are
-- stuck do not, such as those of a process that is gone. A lease tells since when its call is in
-- flight, or since when it is renewed: the shortest one, so that no call seems older than it is.
local function turning(key, room, state)
  if not key.stuck then
    key.stuck = 0
    if key.took and key.shortest then
      local last = state.now + key.shortest - math.max(STUCK * key.took, LEAST_STUCK)
      if last > state.now then
        key.stuck = redis.call('ZCOUNT', key.held, '(' .. whole(state.now), whole(last))
      end
    end
  end
  return math.max(room - key.stuck, 1)
end

local function used_in(key, window, state)
  return redis.call('ZCOUNT', key.log, '(' .. whole(state.now - window), '+inf')
end

-- The bucket's level at state.now. Within an epoch, low is the lowest level the bucket has had.
-- Nothing leaks before key.at, which lies ahead while tokens are out that are good for longer.
local function leak(key, state)
  key.level = math.max(0, key.level - math.max(0, state.now - key.at) * key.rate)
  key.at = math.max(key.at, state.now)
  if key.level < 1 or state.now - key.epoch > EPOCH then
    key.epoch, key.low = state.now, math.huge
  else
    key.low = math.min(key.low, key.level)
  end
end

local function save_bucket(key)
  redis.call('HSET', key.meta, 'level', string.format('%.17g', key.level), 'at', whole(key.at),
    'rate', string.format('%.17g', key.rate), 'epoch', whole(key.epoch),
    'low', string.format('%.17g', math.min(key.low, key.level)))
end

-- Reads what the window of limit holds: limit.used (log) or key.level (bucket), and limit.part if
-- its calls come evenly. A window that reaches back to before the log is complete counts as spent;
-- so does what a token was good for before that.
local function open_limit(limit, key, state)
  if limit.max < 0 then
    return  -- only the calls in flight are limited
  end
  limit.spent = state.now < key.since + limit.window + (limit.calm or 0)
  if limit.max <= LOG_MAX then
    limit.used = used_in(key, limit.window, state)
    if (limit.even or 0) > 0 then
      local span = math.floor(limit.window / PARTS)
      limit.part = { key = key, window = span, used = used_in(key, span, state) }
    end
    return
  end
  limit.bucket = true
  limit.burst = math.floor(limit.max / BURST_DIVISOR)
  key.rate = (limit.max - limit.burst) / limit.window
  if not key.level then
    -- The level starts at what the log shows, even above the burst: with burst + rate * window
    -- = max the sum of old and new stays within max.
    key.level, key.at, key.epoch, key.low = used_in(key, limit.window, state), state.now, 0, 0
  end
  leak(key, state)
end

local function expire(key, state)
  local margin = EXPIRY_MARGIN_MS
  if OVERRIDE ~= '-' then
    margin = margin + OVERRIDE_MARGIN_MS
  end
  local function after(microseconds)
    return whole(math.ceil(microseconds / 1000) + margin)
  end
  redis.call('PEXPIRE', key.log, after(key.keep))
  redis.call('PEXPIRE', key.held, after(key.lease))
  redis.call('PEXPIRE', key.meta, after(math.max(key.keep, key.lease, key.blocked - state.now)))
end

-- Writes members with their scores ({score, member, score, member, ...}) and trims the log.
local function append(key, members, state)
  for first = 1, #members, 1000 do
    redis.call('ZADD', key.log, unpack(members, first, math.min(first + 999, #members)))
  end
  redis.call('ZREMRANGEBYSCORE', key.log, '-inf', whole(state.now - key.keep))
  redis.call('ZREMRANGEBYRANK', key.log, 0, -(LOG_MAX + 1))
end
