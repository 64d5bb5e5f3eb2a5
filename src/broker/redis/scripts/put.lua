-- Sets fields of KEYS[1] and takes others away, all of them or none. ARGV: the condition (always, exists, is, missing), the field that
-- it is about, the value that this must have; then for each field its name, '=' or '-', its value.
local value = ARGV[1] ~= 'always' and redis.call('HGET', KEYS[1], ARGV[2])
if ARGV[1] == 'exists' and not value then return 0 end
if ARGV[1] == 'missing' and value then return 0 end
if ARGV[1] == 'is' and value ~= ARGV[3] then return 0 end
for i = 4, #ARGV, 3 do
  if ARGV[i + 1] == '=' then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
  else
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return 1
