-- Takes up to ARGV[1] elements from the queue KEYS[1] into the in-flight list KEYS[2]; nil while one of the queues that go
-- first, KEYS[3] and behind it, has elements.
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return false end
end
-- The first is moved alone: a Redis that is out of memory refuses that, but would let a script go on that has written.
local first = redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
if not first then return {} end
local more = tonumber(ARGV[1]) - 1
local elements = more > 0 and redis.call('LPOP', KEYS[1], more) or {}
if #elements > 0 then redis.call('RPUSH', KEYS[2], unpack(elements)) end
table.insert(elements, 1, first)
return elements
