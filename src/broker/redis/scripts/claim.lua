-- Takes up to ARGV[1] elements from the queue KEYS[1] into the in-flight list KEYS[2].
local elements = redis.call('LPOP', KEYS[1], ARGV[1])
if not elements then return {} end
redis.call('RPUSH', KEYS[2], unpack(elements))
return elements
