-- Frees the unique key KEYS[1], if the request ARGV[1] holds it, or keeps it for ARGV[2] more milliseconds. KEYS[2] says that
-- the request holds it.
local is_held = redis.call('GET', KEYS[1]) == ARGV[1]
if is_held and tonumber(ARGV[2]) > 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
if is_held then redis.call('DEL', KEYS[1]) end
return redis.call('DEL', KEYS[2])
