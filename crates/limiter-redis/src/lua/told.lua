-- Thresholds: shares of a limit, told once when they are reached. `percent1` to `percent4` are those of the key, rising, 0 for
-- none. What a record says to be left does not include what is kept free for the next one: so a call that simply fits reaches
-- none. The twin of `Thresholds::floor` and `Meter::tell` in limiter-core.

-- What must be left of a limit so that no threshold is reached but those that were told.
local function kept(limit, told)
  if limit <= 0 then return 0 end
  local percent = told == 0 and percent1 or told == 1 and percent2 or told == 2 and percent3 or told == 3 and percent4 or 0
  if percent == 0 then return 0 end
  local share = limit * (100 - percent) / 100
  -- Larger products are not exact.
  if limit > 90000000000000 then
    local odd = limit % 100
    share = odd * (100 - percent) / 100
    share = (limit - odd) / 100 * (100 - percent) + (share - share % 1)
  end
  return share - share % 1 + 1
end

-- What a record says to be left, and how many thresholds were told, of so much that is left.
local function tell(left, limit, told)
  local free = kept(limit, told)
  while free > 0 and left < free do
    told = told + 1
    free = kept(limit, told)
  end
  return left - free, told
end
