-- Arranges what one claimed element needs before it runs.
-- KEYS: fence, in-flight list, list of what must not run again, unique key, limited functions, places of its function,
-- elements that wait for a place, what the request holds, unique keys that are waited for, elements that wait for this one. ARGV: element, id of
-- the request, how long the unique key is held in milliseconds (or ''), how many may wait for it ('': it replaces the holder), how many places
-- there are (or ''), its name among those who have one, the function, whether it must not run again, now, what the unique key is called.
-- Gives back what became of it, and for `ready` whose unique key it took.
if redis.call('GET', KEYS[1]) == 'gone' then return {'gone', false} end
if not redis.call('LPOS', KEYS[2], ARGV[1]) then
  -- An attempt that ended without a word has moved it.
  if ARGV[8] == '1' and redis.call('LPOS', KEYS[3], ARGV[1]) then return {'ready', false} end
  return {'gone', false}
end
local replaced = false
if ARGV[3] ~= '' then
  local holder = redis.call('GET', KEYS[4])
  if holder and holder ~= ARGV[2] then
    if ARGV[4] ~= '' then
      if redis.call('LLEN', KEYS[10]) >= tonumber(ARGV[4]) then return {'duplicate', holder} end
      redis.call('SADD', KEYS[9], ARGV[10])
      redis.call('RPUSH', KEYS[10], ARGV[1])
      redis.call('LREM', KEYS[2], 1, ARGV[1])
      return {'parked', false}
    end
    replaced = holder
  end
  redis.call('SET', KEYS[4], ARGV[2], 'PX', ARGV[3])
  redis.call('SET', KEYS[8], KEYS[4], 'PX', ARGV[3])
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[5], ARGV[7], ARGV[5])
  if not redis.call('ZSCORE', KEYS[6], ARGV[6]) and redis.call('ZCARD', KEYS[6]) >= tonumber(ARGV[5]) then
    redis.call('RPUSH', KEYS[7], ARGV[1])
    redis.call('LREM', KEYS[2], 1, ARGV[1])
    return {'parked', replaced}
  end
  redis.call('ZADD', KEYS[6], ARGV[9], ARGV[6])
end
if ARGV[8] == '1' then
  redis.call('RPUSH', KEYS[3], ARGV[1])
  redis.call('LREM', KEYS[2], 1, ARGV[1])
end
return {'ready', replaced}
