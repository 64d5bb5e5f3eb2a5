-- Arranges what one claimed element needs before it runs.
-- KEYS: fence, in-flight list, list of what must not run again, unique key, limited functions, places of its function,
-- elements that wait for a place, what the request holds. ARGV: element, id of the request, how long the unique key is held in milliseconds (or ''),
-- whether it replaces the holder, how many places there are (or ''), its name among those who have one, the function,
-- whether it must not run again, now, how many may wait for a place (or '').
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
    if ARGV[4] ~= '1' then return {'duplicate', holder} end
    replaced = holder
  end
  redis.call('SET', KEYS[4], ARGV[2], 'PX', ARGV[3])
  redis.call('SET', KEYS[8], KEYS[4], 'PX', ARGV[3])
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[5], ARGV[7], ARGV[5])
  if not redis.call('ZSCORE', KEYS[6], ARGV[6]) and redis.call('ZCARD', KEYS[6]) >= tonumber(ARGV[5]) then
    if ARGV[10] ~= '' and redis.call('LLEN', KEYS[7]) >= tonumber(ARGV[10]) then return {'duplicate', false} end
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
