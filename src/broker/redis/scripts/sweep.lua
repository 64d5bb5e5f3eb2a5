-- Frees the places of calls whose daemon is dead, and lets those start that wait for one, or for a unique key that nobody holds any more.
-- KEYS: limited functions, delayed requests, unique keys that are waited for. ARGV: what starts the names of places, of those who wait, of
-- leases; now; what starts the names of unique keys, and of those who wait for one.
-- Gives back how many may start.
local freed = 0
local limits = redis.call('HGETALL', KEYS[1])
for i = 1, #limits, 2 do
  local func, most = limits[i], tonumber(limits[i + 1])
  local slots, parked = ARGV[1] .. func, ARGV[2] .. func
  for _, member in ipairs(redis.call('ZRANGE', slots, 0, -1)) do
    if redis.call('EXISTS', ARGV[3] .. string.match(member, '^[^|]*')) == 0 then redis.call('ZREM', slots, member) end
  end
  local free = most - redis.call('ZCARD', slots)
  while free > 0 do
    local next = redis.call('LPOP', parked)
    if not next then break end
    redis.call('ZADD', KEYS[2], ARGV[4], next)
    free = free - 1
    freed = freed + 1
  end
  if redis.call('EXISTS', slots, parked) == 0 then redis.call('HDEL', KEYS[1], func) end
end
for _, key in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  local waiting = ARGV[6] .. key
  if redis.call('EXISTS', ARGV[5] .. key) == 0 then
    local next = redis.call('LPOP', waiting)
    if next then
      redis.call('ZADD', KEYS[2], ARGV[4], next)
      freed = freed + 1
    end
  end
  if redis.call('EXISTS', waiting) == 0 then redis.call('SREM', KEYS[3], key) end
end
return freed
