-- take: does calls on records of one shape, each all of it or nothing, if the records are as the caller believes. A template:
-- shape.rs replaces the names in braces, where r1 is the global record and r2 another one.
--
-- KEYS     of each group: the hot and the cold hash of a key; or of a single one also those of its ledger
-- ARGV     of each group: the field of the other record, or ''; the field of the asset, or ''; then from, until, the windows
--          as believed, the stops, and for each call the least and the less of each unit or cell; then what the ledger is given
-- Answers  of each group: seconds, a letter for each call (A applied, R refused), microseconds, the records as they were;
--          or, if nothing was compared, { seconds, letter (T untimely, S stale, W wrong type), microseconds }, and of all
--          calls, of the asset and of other assets the records and the limits. With a ledger the answers are those of apply
local KEYS, ARGV, pack, unpack = KEYS, ARGV, struct.pack, struct.unpack
{ledger}
local answers = {answers}
for group = 1, {last_group} do
  local hot, field, operation, answer = KEYS[2 * group - 1], ARGV[3 * group - 2], ARGV[3 * group]
  local stored = redis.pcall('HMGET', hot, {fields})
  local r1, r2 = stored[1], stored[2]
  local from, till, {believed}, at = unpack('<i6i6{believed_format}', operation)
  local verdict = 'T'
  {listed}
  if {not_listed}second >= from and second < till then
    verdict = 'S'
    if {sizes} then
      {unpack}
      if {same} then
        {roll}
        local letters, applied, {amounts} = '', false
        repeat
          {amounts}, at = unpack('<{amounts_format}', operation, at)
          {left}
          if {enough} then
            {take}
            letters, applied = letters .. 'A', true
          else
            letters = letters .. 'R'
          end
        until at > #operation
        {full}
        if applied then
          redis.call('HSET', hot, {pack})
          {remember}
        end
        answer = {answer}
        if not answers then return answer end
      end
    end
  end
  if not answer and stored.err then
    answer = string.find(stored.err, 'WRONGTYPE') and { time[1] .. 'W' .. time[2] } or stored
  elseif not answer then
    local asset = ARGV[3 * group - 1]
    local shown, limits = redis.pcall('HMGET', hot, 'g', asset, 'o'), redis.pcall('HMGET', KEYS[2 * group], 'g', asset, 'o')
    answer = { time[1] .. verdict .. time[2], {entry}shown[1], shown[2], shown[3], limits[1] or false, limits[2] or false, limits[3] or false }
  end
  if not answers then return answer end
  answers[group] = answer
end
return answers
