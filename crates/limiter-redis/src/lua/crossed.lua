-- How many thresholds were told of each count before, and the records as they are since, if more are told now.
local told_before, asset_told_before = told, asset_told
--include keep.lua
local crossed
if told ~= told_before or asset_told ~= asset_told_before then
  crossed = { pack('<I2I2', told_before, asset_told_before), head, asset_head, T .. (new_H and sub(H, 1, 7) .. new_H or H),
    new_A or A }
end
