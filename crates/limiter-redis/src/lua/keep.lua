    -- Stores the scopes of a call as they are now. The first 13 and 4 bytes change only with limits. A scope that has none
    -- any more, in force or pending, is dropped.
    local head, asset_head, over, asset_over = h, a, false, false
    if new_H or new_A then
      local no_limits = pack('<i7i7i7i7B', NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT, 0)
      over, asset_over = new_H == no_limits, new_A == no_limits
      if over then types = 0 end
      local fired, version, incarnation = unpack('<I3I4I4', h, 3)
      -- The time is mixed in, so that a failover which loses this step does not lead to the same version by another. Zero
      -- is none; and whatever the time, it is another than before: by 1 at least, and by less than all there are.
      local unix_ms = math.abs(second * 1000 + (time[2] - time[2] % 1000) / 1000)
      version = (version + math.fmod(unix_ms, 4294967294)) % 4294967295 + 1
      head = pack('<BBI3I4I4', 1, is_admin and types + 16 or types, fired, version, incarnation)
      if new_A then asset_head = pack('<BBI2', 1, asset_types, (unpack('<I2', a, 3))) end
    end
    if types == 0 then minute, day, left1, left2, left3, left4 = 0, 0, 0, 0, 0, 0 end
    head = pack('<c13i5i4i7i7i7i7i7i7', head, minute, day, ends, left1, left2, left3, left4, credits_left)
    if a and not asset_over then
      redis.call('HSET', key, 'h', head, field, pack('<c4i5i4dddd', asset_head, asset_minute, asset_day,
        asset_left1, asset_left2, asset_left3, asset_left4))
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
