  -- The scopes of a call as they stand now: what consider.lua and settle.lua begin with. It goes on with what they have
  -- read and unpacked.
  local H, A, T
  local kind = first % 65536
  local budget, limit1, limit2, limit3, limit4, pends
  local asset_first, asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4
  local asset_limit1, asset_limit2, asset_limit3, asset_limit4, asset_pends
  if wrong then
    -- There is nothing more to say.
  elseif kind % 256 ~= 1 or a and byte(a) ~= 1 then
    wrong = 'F'
  else
    local limits = redis.call('HMGET', key, 'H', 'A' .. sub(field, 2), 'T')
    H, A, T = limits[1], limits[2], limits[3]
    if not H or #H < 36 or not T or #T ~= 5 or a and (#a ~= 45 or not A or #A < 29) then
      wrong = 'C'
    else
      budget, limit1, limit2, limit3, limit4, pends = unpack('<i7i7i7i7i7B', H)
      if a then
        asset_first, asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4 = unpack('<I4i5i4dddd', a)
        asset_limit1, asset_limit2, asset_limit3, asset_limit4, asset_pends = unpack('<i7i7i7i7B', A)
        if #A + asset_pends ~= 29 and (asset_pends > 15
          or #A ~= 29 + (asset_pends % 4 > 0 and 14 or 0) + (asset_pends >= 4 and 14 or 0)) then wrong = 'C' end
      else
        asset_first, asset_left1, asset_left2, asset_left3, asset_left4 = 1, MAX, MAX, MAX, MAX
        asset_limit1, asset_limit2, asset_limit3, asset_limit4 = NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT
      end
      if #H + pends ~= 36 and (pends > 15
        or #H ~= 36 + (pends % 4 > 0 and 14 or 0) + (pends >= 4 and 14 or 0)) then wrong = 'C' end
    end
  end

  if wrong then return string.rep(wrong, count) end
  -- Types are 0 for what is not counted, which has room for everything.
  local types, asset_types = (kind - 1) / 256, (asset_first % 65536 - 1) / 256
  local is_admin = types >= 16
  if is_admin then types = types - 16 end
  if types == 0 then left1, left2, left3, left4 = MAX, MAX, MAX, MAX end

--include told.lua
  local told, asset_told = (first % 4294967296 - kind) / 65536, (asset_first - asset_first % 65536) / 65536

  -- Of a scope whose clock was mended, the record with nothing else changed, and how often that happened to its windows.
  local new_H, new_A, mended_h, mended_a, mended_w, mended_asset_w
  local minute_ends, day_ends = minute * 60 - second, day * 86400 - second
  if types > 0 and (minute_ends <= 0 or minute_ends > 120 or day_ends <= 0 or day_ends > 172800)
    or a and (types == 0 or asset_minute ~= minute or asset_day ~= day)
  then
--include stage.lua
    local was_minute, was_day, type1, type2 = minute, day
    if types > 0 then
      minute, day, left1, left2, left3, left4, limit1, limit2, limit3, limit4, type1, type2, new_H =
        stage(types, minute, day, left1, left2, left3, left4, H, 8)
      if new_H then types = 1 + type1 + 3 * type2 end
      if minute > was_minute then told = told - told % 64 end
      if day > was_day then told = told - told % 4096 + told % 64 end
      if minute < was_minute or day < was_day then
        mended_h = sub(h, 1, 13) .. pack('<i5i4', minute < was_minute and minute or was_minute,
          day < was_day and day or was_day) .. sub(h, 23)
        mended_w = mended(redis.call('HGET', key, 'w'), minute < was_minute, day < was_day)
      end
    end
    if a then
      was_minute, was_day = asset_minute, asset_day
      asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4,
        asset_limit1, asset_limit2, asset_limit3, asset_limit4, type1, type2, new_A =
        stage(asset_types, asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4, A, 1)
      if new_A then asset_types = 1 + type1 + 3 * type2 end
      if asset_minute > was_minute then asset_told = asset_told - asset_told % 64 end
      if asset_day > was_day then asset_told = asset_told % 64 end
      if asset_minute < was_minute or asset_day < was_day then
        mended_a = sub(a, 1, 4) .. pack('<i5i4', asset_minute < was_minute and asset_minute or was_minute,
          asset_day < was_day and asset_day or was_day) .. sub(a, 14)
        mended_asset_w = mended(redis.call('HGET', key, 'w' .. sub(field, 2)), asset_minute < was_minute, asset_day < was_day)
      end
    end
  end
