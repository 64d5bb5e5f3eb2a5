-- Frees the unique key KEYS[1], if the request ARGV[1] holds it, or keeps it for ARGV[2] more milliseconds if those are not 0. KEYS[2] says
-- that the request holds it. The first of those KEYS[3] that wait for it gets it for ARGV[3] milliseconds, so that none who comes later is
-- before it, and goes to our inbox KEYS[4]: we can run what it was waiting for. ARGV[4] starts the names that say what a request holds.
local is_held = redis.call('GET', KEYS[1]) == ARGV[1]
if is_held and tonumber(ARGV[2]) > 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return redis.call('PEXPIRE', KEYS[2], ARGV[2])
end
redis.call('DEL', KEYS[2])
if not is_held then return 0 end
redis.call('DEL', KEYS[1])
local next = redis.call('LMOVE', KEYS[3], KEYS[4], 'LEFT', 'RIGHT')
if not next then return 1 end
local is_json, request = pcall(cjson.decode, next)
if is_json and type(request) == 'table' and type(request.id) == 'string' then
  redis.call('SET', KEYS[1], request.id, 'PX', ARGV[3])
  redis.call('SET', ARGV[4] .. request.id, KEYS[1], 'PX', ARGV[3])
end
return 1
