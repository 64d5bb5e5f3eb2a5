-- Sets a field where it is not there, and sends a request in the same step.
-- KEYS: the key of the field, what the room has sent, the inbox of the daemon, the key of what keeps the request from being sent, the key of
-- what is noted with it. ARGV: field, value, id of the request, request (or ''), field that keeps it from being sent (or ''), the value then,
-- field that is noted (or ''), its value, how many fields are kept, the name after which no right one comes, how long they are kept in seconds.
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then
  -- An attempt that ended without a word is ours.
  return redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] and 'sent' or 'taken'
end
redis.call('EXPIRE', KEYS[1], ARGV[11])
if ARGV[7] ~= '' then redis.call('HSET', KEYS[5], ARGV[7], ARGV[8]) end
local became = 'sent'
if ARGV[4] ~= '' then
  if ARGV[5] ~= '' and redis.call('HEXISTS', KEYS[4], ARGV[5]) == 1 then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[6])
    became = 'withheld'
  else
    redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
    redis.call('RPUSH', KEYS[3], ARGV[4])
  end
end
local most = tonumber(ARGV[9])
-- A few more, so that this is not done each time.
if redis.call('HLEN', KEYS[1]) > most + most / 4 then
  local names = redis.call('HKEYS', KEYS[1])
  -- What is far in the future was begun by a clock that was wrong.
  local function before(a, b)
    local a_is_wrong, b_is_wrong = a > ARGV[10], b > ARGV[10]
    if a_is_wrong ~= b_is_wrong then return a_is_wrong end
    return a < b
  end
  table.sort(names, before)
  for i = 1, #names - most do
    if names[i] ~= ARGV[1] then redis.call('HDEL', KEYS[1], names[i]) end
  end
end
return became
