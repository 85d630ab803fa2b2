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
    if credits_left < 0 or left1 < 0 or left2 < 0 or left3 < 0 or left4 < 0
      or asset_left1 < 0 or asset_left2 < 0 or asset_left3 < 0 or asset_left4 < 0
    then
      -- What is ahead of the next threshold, and how many were told then. The twin of `Meter::tell` in limiter-core.
      local function tell(left, limit, told, at)
        if left >= 0 then return left, told end
        local free = kept(limit, told, at)
        left = left + free
        while free > 0 and left < free do
          told = told + at
          free = kept(limit, told, at)
        end
        return left - free, told
      end
      left1, told = tell(left1, limit1, told, 1)
      left2, told = tell(left2, limit2, told, 8)
      left3, told = tell(left3, limit3, told, 64)
      left4, told = tell(left4, limit4, told, 512)
      credits_left, told = tell(credits_left, budget, told, 4096)
      asset_left1, asset_told = tell(asset_left1, asset_limit1, asset_told, 1)
      asset_left2, asset_told = tell(asset_left2, asset_limit2, asset_told, 8)
      asset_left3, asset_told = tell(asset_left3, asset_limit3, asset_told, 64)
      asset_left4, asset_told = tell(asset_left4, asset_limit4, asset_told, 512)
    end
    if types == 0 then minute, day, left1, left2, left3, left4 = 0, 0, 0, 0, 0, 0 end
    local head = pack('<BBI2Bc8i5i4i7i7i7i7i7i7', 1, is_admin and types + 16 or types, told, byte(T), stamp, minute, day, ends,
      left1, left2, left3, left4, credits_left)
    local asset_head = a and not asset_over and pack('<BBI2i5i4dddd', 1, asset_types, asset_told, asset_minute, asset_day,
      asset_left1, asset_left2, asset_left3, asset_left4)
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
