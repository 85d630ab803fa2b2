-- take: does calls on records of one shape, each all of it or nothing, if the records are as the caller believes. A template:
-- shape.rs replaces the names in braces, where r1 is the global record and r2 another one.
--
-- KEYS     of each group of calls: of each level, the outermost first, the hot and the cold hash; or of a single one also those
--          of its ledger
-- ARGV     of each group of calls: of each level the field of the other record, or ''; the field of the asset, or ''; then from,
--          until, the windows as believed, the stops, and for each call the least and the less of each unit or cell; then what
--          the ledger is given
-- Answers  of each group: seconds, a letter for each call (A applied, R refused), microseconds, the records as they were;
--          or, if nothing was compared, { seconds, letter (T untimely, S stale, W wrong type), microseconds }, and of each
--          level, of all calls, of the asset and of other assets the records and the limits. With a ledger the answers are
--          those of apply
local KEYS, ARGV, pack, unpack = KEYS, ARGV, struct.pack, struct.unpack
{ledger}
local answers = {answers}
for group = 1, {last_group} do
  local keys, args = {keys} * (group - 1), {arguments} * (group - 1)
  local operation, answer = ARGV[args + {arguments}]
  {read}
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
          if {enough}{slots} then
            {take}
            letters, applied = letters .. 'A', true
          else
            letters = letters .. 'R'
          end
        until at > #operation
        {full}
        if applied then
          {write}
          {remember}
        end
        answer = {answer}
        if not answers then return answer end
      end
    end
  end
  local failed = {failed}
  if not answer and failed then
    answer = string.find(failed.err, 'WRONGTYPE') and { time[1] .. 'W' .. time[2]{entry} } or failed
  elseif not answer then
    answer = { time[1] .. verdict .. time[2]{entry} }
    local size = #answer
    for key = keys + 1, keys + {keys} do
      local shown = redis.pcall('HMGET', KEYS[key], 'g', ARGV[args + {asset}], 'o')
      answer[size + 1], answer[size + 2], answer[size + 3] = shown[1] or false, shown[2] or false, shown[3] or false
      size = size + 3
    end
  end
  if not answers then return answer end
  answers[group] = answer
end
return answers
