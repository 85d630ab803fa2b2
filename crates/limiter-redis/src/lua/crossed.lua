-- How many thresholds were told of each count, before and after; and the records as they are then, if those are not the same.
local function told_of_each()
  return pack('<BBBBB', told1 + 16 * told2, told3 + 16 * told4, credits_told, asset_told1 + 16 * asset_told2,
    asset_told3 + 16 * asset_told4)
end
local told_before = told_of_each()
--include keep.lua
local crossed
if told_of_each() ~= told_before then
  crossed = { told_before, head, asset_head, T .. (new_H and sub(H, 1, 7) .. new_H or H), new_A or A }
end
