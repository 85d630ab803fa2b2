-- What is remembered of a reservation: how it has ended, until when it is remembered, and its estimate.
local ended, ends_at, input, output, credits = byte(record, 2)
if byte(record) == 1 and #record >= 109 and ended <= 2 and (#record == 109 or byte(record, 110) == 97) then
  ends_at = unpack('<i7', record, 3)
  input, output, credits = unpack('<I7I7I7', record, 38)
end
if not ends_at or input + output > MAX or credits > MAX then
  return { (byte(record) or 0) > 1 and 'F' or 'C', time[1], time[2], record }
end
