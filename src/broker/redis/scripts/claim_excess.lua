-- Takes up to ARGV[2] of the newest elements of the queue KEYS[1] that stand behind ARGV[1] others into the in-flight list
-- KEYS[2]. Of what is longer than ARGV[3] only ARGV[4] bytes of each end are kept, and how long it was.
local excess = math.min(redis.call('LLEN', KEYS[1]) - tonumber(ARGV[1]), tonumber(ARGV[2]))
if excess <= 0 then return {} end
local elements = redis.call('LRANGE', KEYS[1], -excess, -1)
local longest, ends = tonumber(ARGV[3]), tonumber(ARGV[4])
for i, element in ipairs(elements) do
  if #element > longest then
    elements[i] = string.sub(element, 1, ends) .. '\0cut ' .. #element .. '\0' .. string.sub(element, -ends)
  end
end
-- First what a Redis that is out of memory refuses.
redis.call('RPUSH', KEYS[2], unpack(elements))
redis.call('LTRIM', KEYS[1], 0, -excess - 1)
return elements
