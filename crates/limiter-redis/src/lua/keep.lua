    -- Stores the scopes of a call as they are now, and tells the thresholds that they have reached. A scope that has no limits
    -- any more, in force or pending, is dropped.
    local stamp, over, asset_over = sub(h, 6, 13), false, false
    if new_H or new_A then
      local no_limits = pack('<i7i7i7i7B', NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT, 0)
      over, asset_over = new_H == no_limits, new_A == no_limits
      if over then types = 0 end
      local version, incarnation = unpack('<I4I4', stamp)
      -- The time is mixed in, so that a failover which loses this step does not lead to the same version by another. Zero
      -- is none; and whatever the time, it is another than before: by 1 at least, and by less than all there are.
      local unix_ms = math.abs(second * 1000 + (time[2] - time[2] % 1000) / 1000)
      version = (version + math.fmod(unix_ms, 4294967294)) % 4294967295 + 1
      stamp = pack('<I4I4', version, incarnation)
    end
    if percent1 > 0 then
      left1, told1 = tell(left1, limit1, told1)
      left2, told2 = tell(left2, limit2, told2)
      left3, told3 = tell(left3, limit3, told3)
      left4, told4 = tell(left4, limit4, told4)
      credits_left, credits_told = tell(credits_left, budget, credits_told)
      asset_left1, asset_told1 = tell(asset_left1, asset_limit1, asset_told1)
      asset_left2, asset_told2 = tell(asset_left2, asset_limit2, asset_told2)
      asset_left3, asset_told3 = tell(asset_left3, asset_limit3, asset_told3)
      asset_left4, asset_told4 = tell(asset_left4, asset_limit4, asset_told4)
    end
    if types == 0 then minute, day, left1, left2, left3, left4 = 0, 0, 0, 0, 0, 0 end
    local head = pack('<BBBBBc8i5i4i7i7i7i7i7i7', 1, is_admin and types + 16 or types, told1 + 16 * told2, told3 + 16 * told4,
      credits_told, stamp, minute, day, ends, left1, left2, left3, left4, credits_left)
    local asset_head = a and not asset_over and pack('<BBBBi5i4dddd', 1, asset_types, asset_told1 + 16 * asset_told2,
      asset_told3 + 16 * asset_told4, asset_minute, asset_day, asset_left1, asset_left2, asset_left3, asset_left4)
    if asset_head then
      redis.call('HSET', key, 'h', head, field, asset_head)
    else
      redis.call('HSET', key, 'h', head)
    end
    if new_H then redis.call('HSET', key, 'H', sub(H, 1, 7) .. new_H) end
    if over then
      redis.call('HDEL', key, 'w')
    elseif mended_w then
      redis.call('HSET', key, 'w', mended_w)
    end
    if asset_over then
      redis.call('HDEL', key, field, 'A' .. sub(field, 2), 'w' .. sub(field, 2))
    else
      if new_A then redis.call('HSET', key, 'A' .. sub(field, 2), new_A) end
      if mended_asset_w then redis.call('HSET', key, 'w' .. sub(field, 2), mended_asset_w) end
    end
