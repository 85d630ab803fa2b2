-- The ledger of a key, by kind: 1 an id that must be new, 2 a reservation that must be new, 3 one that must be as given. It is
-- given an id; how long that is remembered in ms (negative: as long as before) and two bounds, or a bound and how long an id that it
-- confirms is remembered; then by kind: the id that it confirms or ''; what stands before and after the windows; the
-- entry that must be there, and what takes its place ('' if it is to be forgotten). A reservation comes with its slots, or '': how many sets there are, how long
-- a slot is held in ms, and of each set the number of its key, its level from 0 and the most slots that may be held; and with
-- their holder. One that is new takes a slot of each set, one that goes on renews those that it still holds, one that ends frees them.
local order, entries, ended = KEYS[2 * levels + 1], KEYS[2 * levels + 2], KEYS[2 * levels + 3]
local id, entry, known, life, most, most_ended = ARGV[given], false
local last = 9007199254740991 -- Timestamp::MAX
local slots, holder, open, out_of_slots, held_in = ledger > 1 and ARGV[given + 4] or '', ARGV[given + 5], false, {}, {}
-- Does something with each set.
local function each_set(act)
  local count, held_for, place = struct.unpack('<Bi7', slots)
  for _ = 1, count do
    local key, level, limit
    key, level, limit, place = struct.unpack('<BBi7', slots, place)
    act(KEYS[key], level, limit, held_for)
  end
end
if ledger == 2 and slots ~= '' then
  -- Of each set how many slots are held, and when one is free if none is. Levels without a free one are out of slots.
  local after, told = string.format('(%.0f', now), ''
  each_set(function(key, level, limit)
    local held, frees = redis.call('ZCOUNT', key, after, '+inf'), ''
    if held >= limit then
      frees = redis.call('ZRANGEBYSCORE', key, after, '+inf', 'WITHSCORES', 'LIMIT', held - limit, 1)[2] or ''
      out_of_slots[level + 1] = true
    end
    held_in[key], told = held, told .. ';' .. held .. ',' .. frees
  end)
  open = told
end
-- Holds a slot. Now and then those that have expired are dropped. Should nothing come any more, Redis forgets the set: put off so
-- far each time that it is done rarely. The first slot does so without asking.
local function hold(key, held_until, held_for, is_first)
  redis.call('ZADD', key, held_until, holder)
  if time[2] % 64 == 0 then redis.call('ZREMRANGEBYSCORE', key, '-inf', now) end
  if clock_arguments == 0 and (is_first or redis.call('PTTL', key) < held_for) then
    redis.call('PEXPIRE', key, 2 * held_for + 60000)
  end
end
-- Whether the ledger has something else.
local function is_listed()
  life, most, most_ended = struct.unpack('<i7i7i7', ARGV[given + 1])
  if ledger == 1 then
    local known_until = redis.call('ZSCORE', order, id)
    entry = known_until and known_until + 0 > now and known_until
    return entry
  end
  entry = redis.call('HGET', entries, id)
  known = entry
  local lives = entry and #entry > 7 and struct.unpack('<i7', entry) > now
  return ledger == 2 and lives or ledger == 3 and not (lives and entry == ARGV[given + 2])
end
-- Looks for room in a set: '' if there is some, else when. Drops expired entries: a few a call, but more than are added.
local function room(order, most)
  local count, passed = redis.call('ZCARD', order), 0
  if count >= most or count % 16 == 0 and count > 0 then
    passed = redis.call('ZCOUNT', order, '-inf', now)
    local above = count - passed - most
    if above >= 0 then
      local after = string.format('(%.0f', now)
      return redis.call('ZRANGEBYSCORE', order, after, '+inf', 'WITHSCORES', 'LIMIT', above, 1)[2] or 'never'
    end
  end
  if passed > 0 then
    local gone = redis.call('ZRANGE', order, 0, math.min(passed, 32) - 1)
    if ledger > 1 then redis.call('HDEL', entries, _G.unpack(gone)) end
    redis.call('ZREM', order, _G.unpack(gone))
  end
  return ''
end
local function is_full()
  if ledger == 1 then entry = room(order, most) elseif ledger == 2 then entry = room(order, most) .. ',' .. room(ended, most_ended) end
  return ledger < 3 and entry ~= '' and entry ~= ','
end
local function remember(identities, spared)
  local ends, first, second = life >= 0 and math.min(now + life, last), ARGV[given + 2], ARGV[given + 3]
  if ledger == 1 then
    redis.call('ZADD', order, ends, id)
    local sooner, confirmed = math.min(now + most_ended, last), first ~= '' and redis.call('ZSCORE', order, first)
    if confirmed and confirmed + 0 > sooner then redis.call('ZADD', order, sooner, first) end
  elseif ledger == 2 then
    redis.call('HSET', entries, id, struct.pack('<i7B', ends, spared) .. first .. identities .. second)
    redis.call('ZADD', order, ends, id)
    if known then redis.call('ZREM', ended, id) end -- it ended, and has run out
    if slots ~= '' then
      each_set(function(key, level, _, held_for)
        if spared % 2 ^ (level + 1) >= 2 ^ level then return end
        hold(key, math.min(now + held_for, last), held_for, held_in[key] == 0)
      end)
    end
  elseif second == '' then -- it is to be forgotten
    redis.call('HDEL', entries, id)
    redis.call('ZREM', order, id)
  elseif string.byte(second) == 0 then -- it goes on
    redis.call('HSET', entries, id, (ends and struct.pack('<i7', ends) or string.sub(entry, 1, 7)) .. string.sub(entry, 8, 8) .. second)
    if ends then redis.call('ZADD', order, ends, id) end
    if slots ~= '' then
      each_set(function(key, _, _, held_for)
        local held_until = redis.call('ZSCORE', key, holder)
        if held_until and held_until + 0 > now then
          local ends_at = ends or struct.unpack('<i7', entry)
          hold(key, math.min(now + held_for, ends_at, last), held_for, false)
        end
      end)
    end
  else
    redis.call('HSET', entries, id, struct.pack('<i7B', ends, 0) .. second)
    redis.call('ZREM', order, id)
    redis.call('ZADD', ended, ends, id)
    if slots ~= '' then each_set(function(key) redis.call('ZREM', key, holder) end) end
  end
  -- Should the key not be called any more, Redis forgets what has passed: put off so far each time that it is done rarely. By a
  -- manual clock it does not, since that and the life of a Redis key do not fit together.
  local listed = ledger == 3 and string.byte(second) ~= 0 and ended or order
  if clock_arguments == 0 and ends and redis.call('PTTL', listed) < life then
    redis.call('PEXPIRE', listed, 2 * life + 60000)
    if entries and redis.call('PTTL', entries) < 2 * life + 60000 then redis.call('PEXPIRE', entries, 2 * life + 60000) end
  end
end
