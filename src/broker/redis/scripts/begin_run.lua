-- Begins one instant of a cron entry, unless it is on record.
-- KEYS: runs of the entry, last moments of all entries, paused entries, inbox of the daemon, what cron has sent. ARGV: name,
-- instant, its moment in milliseconds, record, record if paused, request (or ''), how many records are kept, a name that is later
-- than all instants until tomorrow, how long records are kept in seconds, id of the request.
if redis.call('HSETNX', KEYS[1], ARGV[2], ARGV[4]) == 0 then
  -- An attempt that ended without a word is ours.
  return redis.call('HGET', KEYS[1], ARGV[2]) == ARGV[4] and 'sent' or 'taken'
end
redis.call('EXPIRE', KEYS[1], ARGV[9])
if tonumber(ARGV[3]) ~= 0 then redis.call('HSET', KEYS[2], ARGV[1], ARGV[3]) end
local became = 'sent'
if ARGV[6] ~= '' then
  if redis.call('SISMEMBER', KEYS[3], ARGV[1]) == 1 then
    redis.call('HSET', KEYS[1], ARGV[2], ARGV[5])
    became = 'paused'
  else
    redis.call('HSET', KEYS[5], ARGV[10], ARGV[6])
    redis.call('RPUSH', KEYS[4], ARGV[6])
  end
end
local keep = tonumber(ARGV[7])
-- A few more, so that this is not done each time.
if redis.call('HLEN', KEYS[1]) > keep + keep / 4 then
  local instants = redis.call('HKEYS', KEYS[1])
  -- What is far in the future was begun by a clock that was wrong.
  local function before(a, b)
    local a_is_wrong, b_is_wrong = a > ARGV[8], b > ARGV[8]
    if a_is_wrong ~= b_is_wrong then return a_is_wrong end
    return a < b
  end
  table.sort(instants, before)
  for i = 1, #instants - keep do
    if instants[i] ~= ARGV[2] then redis.call('HDEL', KEYS[1], instants[i]) end
  end
end
return became
