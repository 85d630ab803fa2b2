-- Thresholds: shares of a limit, told once when they are reached. The first four bytes of `T` are those of the key, in
-- percent, rising, 0 for none. What a record says to be left is what is left *ahead*: without what is kept free for the next
-- threshold. So a call that simply fits reaches none, and what is below zero has reached one, or is a debt. The twin of
-- `Thresholds::floor` in limiter-core.
--
-- How many were told stands in one number, of three bits for each count: at 1 and 8 for requests and tokens of the minute,
-- at 64 and 512 for those of the day, at 4096 for the credits.

-- What must be left of a limit so that no threshold is reached but those that were told.
local function kept(limit, told, at)
  if limit <= 0 then return 0 end
  told = (told % (8 * at) - told % at) / at
  local percent = told < 4 and byte(T, told + 1) or 0
  if percent == 0 then return 0 end
  local share = limit * (100 - percent) / 100
  -- Larger products are not exact.
  if limit > 9e13 then
    local odd = limit % 100
    share = odd * (100 - percent) / 100
    share = (limit - odd) / 100 * (100 - percent) + (share - share % 1)
  end
  return share - share % 1 + 1
end
