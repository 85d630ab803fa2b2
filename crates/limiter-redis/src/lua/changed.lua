-- The count as it would have been with a change: it stays between nothing and the largest number.
local function changed(left, limit, by)
  local all = limit == NO_LIMIT and MAX or limit
  left = left + by
  if left > all then return all end
  if left < all - MAX then return all - MAX end
  return left
end
