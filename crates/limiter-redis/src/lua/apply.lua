-- apply: does one operation, all of it or nothing, if everything is as its caller believes: the equivalent of `apply` in
-- limiter-core's operation.rs. It knows no rule: it compares, takes, and moves marks along stops. step.rs writes the operation.
--
-- KEYS     of each level, the outermost first, the hot and the cold hash; then those that guards, puts, drops, the ledger and
--          closed days name by numbers: closed days by that of the outermost level
-- ARGV     the operation; the field of each record; the fields to show; for each guard the number of a key, a field and its
--          value ('' for none; without a field the key must not be there); for each put the same, but that a negative number puts
--          the time of the step in milliseconds; for each drop, which comes before the puts, a number and a field ('' for the whole
--          key); for each key that is to live for a while its number, until when in ms, and for how many ms at least; the
--          records of a level that begins with this operation; what the ledger is given
-- Answers  { seconds, letters, microseconds }: for each call A applied, b to p applied but to the soft levels that are its bits
--          above a, or R refused; A alone without calls; or T untimely, X after its last time, S stale, G a guard differs, L the
--          ledger has something else, N it is full, W wrong type, C a record of another size; then the entry of the ledger or
--          the times at which it has room, or 0; then of each set of slots ; and how many are held and when one is free, with a comma
--          between; then after A to p, R and N the records as they were, and after all others of each
--          level the records and the limits in the fields to show
local MAX, KEEP, ROLL, ANEW, BEGIN, END = 9007199254740991, 0, 2, 3, 4, 5
local STARTED, ACCOUNT = 255, 254
local KEYS, ARGV, pack, unpack, sub, rep, all = KEYS, ARGV, struct.pack, struct.unpack, string.sub, string.rep, unpack
local now = second * 1000 + (time[2] - time[2] % 1000) / 1000
local operation = ARGV[1]
local from, till, not_after, records, shown, calls, guards, puts, drops, ledger, history, kept_after, levels, soft, begins, lives, place =
  unpack('<i7i7i7HHHHHHBBi6BBBB', operation)
local found, level_of, failed, begun = {}, {}, false, 0
local first_guard = records + shown + 2
local first_put = first_guard + 3 * guards
local first_drop = first_put + 3 * puts
local first_life = first_drop + 2 * drops
local first_begun = first_life + 3 * lives
for level = 1, levels do
  local count, first = 0, #level_of
  count, place = unpack('<H', operation, place)
  local stored = count > 0 and redis.pcall('HMGET', KEYS[2 * level - 1], all(ARGV, first + 2, first + count + 1)) or {}
  failed = stored.err and stored or failed
  for n = 1, count do
    found[first + n], level_of[first + n] = stored[n], level
    if level == begins then found[first + n], begun = ARGV[first_begun + n - 1], n end
  end
end
local given = first_begun + begun
--ledger
local function answer(letters)
  if string.find(letters, '^[ARNb-p]') then return { time[1] .. letters .. time[2], entry or 0, open, all(found, 1, records) } end
  local parts = { time[1] .. letters .. time[2], entry or 0, open }
  for key = 1, shown > 0 and 2 * levels or 0 do
    local stored = redis.pcall('HMGET', KEYS[key], all(ARGV, records + 2, first_guard - 1))
    if stored.err then return string.find(stored.err, 'WRONGTYPE') and { time[1] .. 'W' .. time[2], entry or 0, open } or stored end
    for n = 1, shown do parts[3 + (key - 1) * shown + n] = stored[n] end
  end
  return parts
end
if failed then return string.find(failed.err, 'WRONGTYPE') and { time[1] .. 'W' .. time[2], entry or 0, open } or failed end
if ledger > 0 and is_listed() then return answer('L') end
if now < from or now >= till then return answer('T') end
if not_after > 0 then
  local real = redis.call('TIME')
  if real[1] * 1000 + math.floor(real[2] / 1000) > not_after then return answer('X') end
end
for guard = first_guard, first_put - 1, 3 do
  local key, field = KEYS[ARGV[guard] + 0], ARGV[guard + 1]
  if field == '' then
    if redis.call('PTTL', key) ~= -2 then return answer('G') end -- it is there
  elseif (redis.pcall('HGET', key, field) or '') ~= ARGV[guard + 2] then
    return answer('G')
  end
end
-- Reads each record, compares its windows, and moves them.
local values, marks, counts, heads, closed = {}, {}, {}, {}, {}
local strides, from_stops, start_marks, to_stops = {}, {}, {}, {}
for n = 1, records do
  local stored, seen_prefix, prefix = found[n]
  local spans, before, count, blocks, reshaped, has_starts, stops, stride, starts
  seen_prefix, prefix, spans, before, count, blocks, reshaped, has_starts, stops, stride, place =
    unpack('<Bc0Bc0BBBBBBBB', operation, place)
  local size = #seen_prefix
  if not stored or sub(stored, 1, size) ~= seen_prefix then return answer('S') end
  local first_mark = size + 7 * spans + 1
  if #stored ~= first_mark - 1 + 8 * before then return answer('C') end
  local old_v, old_m = { unpack('<' .. rep('i7', before), stored, first_mark + before) },
    { string.byte(stored, first_mark, first_mark + before - 1) }
  local v, m, seen, old, new, next_spans = old_v, old_m, size + 1, 0, 0, ''
  if reshaped > 0 then v, m = {}, {} end
  if has_starts > 0 then
    starts = { unpack('<' .. rep('i7', count), operation, place) }
    place = starts[count + 1]
  end
  -- Of each cell in turn: what must be left by mark, and at last the cap. Those after, then those before with the marks to
  -- start from; or both are the same.
  if stops > 0 then
    local format = '<' .. rep('i7', count * stride)
    to_stops[n] = { unpack(format, operation, place) }
    place = to_stops[n][count * stride + 1]
    from_stops[n] = to_stops[n]
    if stops > 1 then
      from_stops[n] = { unpack(format, operation, place) }
      place = from_stops[n][count * stride + 1]
      start_marks[n] = { string.byte(operation, place, place + count * (stride - 1) - 1) }
      place = place + count * (stride - 1)
    end
  end
  for _ = 1, blocks do
    local mode, ends, is_day, old_cells, cells, e, b, next_e, next_b, stored_e, stored_b
    mode, ends, is_day, old_cells, cells, place = unpack('<BBBBB', operation, place)
    if ends > 0 then e, b, next_e, next_b, place = unpack('<i6Bi6B', operation, place) end
    local begins = mode == ANEW or mode == BEGIN
    if ends > 0 and mode ~= BEGIN then
      stored_e, stored_b, seen = unpack('<i6B', stored, seen)
      if mode == ROLL then
        if stored_e > e then return answer('S') end
        begins, next_e, next_b = stored_e < e, e, stored_b
      elseif stored_e ~= e or stored_b ~= b then
        return answer('S')
      end
    end
    if begins and is_day > 0 and mode ~= BEGIN then
      local account = first_mark + before + 7 * old
      for cell = old + 1, old + 4 do
        if old_v[cell] ~= MAX then
          local ended = math.min(stored_e, next_e)
          closed[n] = { ended, pack('<i6B', ended, stored_b) .. sub(seen_prefix, -4) .. sub(stored, account, account + 27) .. ARGV[n + 1] }
        end
      end
    end
    if ends > 0 and mode ~= END then next_spans = next_spans .. pack('<i6B', next_e, next_b) end
    for cell = 1, cells do
      local at, origin, value, mark = new + cell, cell - 1
      if reshaped > 0 then
        origin, place = unpack('B', operation, place)
        if origin == ACCOUNT then
          local first, summed, used, base, top = 0, 0, 0, (at - 1) * stride, stride - 1
          first, summed, place = unpack('<BB', operation, place)
          for other = old + first + 1, old + first + summed do used = used + (MAX - old_v[other]) end
          local left = to_stops[n][base + stride] - (used < MAX and used or MAX)
          value, mark = left, 0
          while mark < top and to_stops[n][base + mark + 1] > 0 and left < to_stops[n][base + mark + 1] do mark = mark + 1 end
          if mark < top then value = left - to_stops[n][base + mark + 1] end
        elseif origin ~= STARTED then
          value, mark = old_v[old + origin + 1], old_m[old + origin + 1]
        end
      end
      if begins or reshaped > 0 and not value then value, mark = starts[at], 0 end
      if value then v[at], m[at] = value, mark end
    end
    new, old = new + cells, old + old_cells
  end
  values[n], marks[n], counts[n], heads[n], strides[n] = v, m, count, prefix .. next_spans, stride
end
-- Takes from all cells for each call, or from none, but for the levels that are soft and have too little.
local letters, applied, spared = '', calls == 0, 0
for _ = 1, calls do
  local short, takes, hard, all_short = {}, {}, false, levels
  for n = 1, records do
    local v, m, stops, stride, base, take = values[n], marks[n], from_stops[n], strides[n], 1, 1
    local of_record = { unpack('<' .. rep('i7', 2 * counts[n]), operation, place) }
    takes[n], place = of_record, of_record[2 * counts[n] + 1]
    for cell = 1, counts[n] do
      local left, mark = v[cell], m[cell]
      if stops and mark < stride - 1 then left = left + stops[base + mark] end
      if left < of_record[take] then short[level_of[n]] = true end
      take, base = take + 2, base + stride
    end
  end
  for level in pairs(out_of_slots) do short[level] = true end
  spared = 0
  for level in pairs(short) do
    local bit = 2 ^ (level - 1)
    if soft % (2 * bit) < bit then hard = true end
    spared, all_short = spared + bit, all_short - 1
  end
  local fits = not hard and (all_short > 0 or spared == 0)
  if fits then
    applied = true
    for n = 1, records do
      local v, m, stops, to, starts, stride = values[n], marks[n], from_stops[n], to_stops[n], start_marks[n], strides[n]
      local base, take = 1, 2
      for cell = 1, short[level_of[n]] and 0 or counts[n] do
        local left, mark, top = v[cell], m[cell], stops and stride - 1 or 0
        if mark < top then
          left = left + stops[base + mark]
          if starts then mark = starts[(cell - 1) * top + mark + 1] end
        end
        left = left - takes[n][take] -- last: beyond 2^53, where it would not be exact, it is clamped
        if stops then
          local cap = to[base + top]
          if left > cap then left = cap elseif left < cap - MAX then left = cap - MAX end
          while mark < top and to[base + mark] > 0 and left < to[base + mark] do mark = mark + 1 end
          if mark < top then left = left - to[base + mark] end
          m[cell] = mark
        end
        v[cell], take, base = left, take + 2, base + stride
      end
    end
  end
  letters = letters .. (not fits and 'R' or spared == 0 and 'A' or string.char(97 + spared))
end
if not applied then return answer(letters) end
if ledger > 0 and is_full() then return answer('N') end
-- Everything holds: writes.
local identities, fresh = '', {}
for n = 1, records do
  local count, head, level = counts[n], heads[n], level_of[n]
  -- The stamp, at the start of a global record, is no part of an identity.
  identities = identities .. (level ~= level_of[n - 1] and sub(head, 9) or head)
  local of_level = fresh[level] or {}
  local size = #of_level
  fresh[level], of_level[size + 1] = of_level, ARGV[n + 1]
  of_level[size + 2] = head .. string.char(all(marks[n], 1, count)) .. pack('<' .. rep('i7', count), all(values[n], 1, count))
end
-- Lua has room for 8,000 values at once, and a key may have more than half as many records.
for level, of_level in pairs(fresh) do
  for first = 1, #of_level, 4000 do
    redis.call('HSET', KEYS[2 * level - 1], all(of_level, first, math.min(first + 3999, #of_level)))
  end
end
for drop = first_drop, first_life - 1, 2 do
  local key, field = KEYS[ARGV[drop] + 0], ARGV[drop + 1]
  if field == '' then redis.call('UNLINK', key) else redis.call('HDEL', key, field) end
end
for put = first_put, first_drop - 1, 3 do
  local key, value = ARGV[put] + 0, ARGV[put + 2]
  if key < 0 then key, value = -key, string.format('%.0f', now) end
  redis.call('HSET', KEYS[key], ARGV[put + 1], value)
end
for life = first_life, first_begun - 1, 3 do
  local key, ms = KEYS[ARGV[life] + 0], math.max(ARGV[life + 1] - now, ARGV[life + 2] + 0)
  if clock_arguments == 0 and redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end
if history > 0 and next(closed) then
  for n, day in pairs(closed) do
    local key = KEYS[history + level_of[n] - 1]
    if key then -- an unregistered key has no history
      redis.call('ZADD', key, day[1], day[2])
      redis.call('ZREMRANGEBYSCORE', key, '-inf', kept_after)
      if clock_arguments == 0 then redis.call('PEXPIRE', key, now - kept_after * 1000 + 172800000) end
    end
  end
end
if ledger > 0 then remember(identities, spared) end
return answer(calls == 0 and 'A' or letters)
