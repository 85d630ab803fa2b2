-- What is ahead of a limit after a change of its count, which stays between nothing and the largest number.
local function changed(left, limit, told, at, by)
  if by == 0 then return left end
  local all = (limit == NO_LIMIT and MAX or limit) - kept(limit, told, at)
  left = left + by
  if left > all then return all end
  if left < all - MAX then return all - MAX end
  return left
end
