-- Takes up to ARGV[1] elements from the queue KEYS[1] into the in-flight list KEYS[2]; nil while one of the queues that go
-- first, KEYS[3] and behind it, has elements. Of what is longer than ARGV[2] only ARGV[3] bytes of each end are kept, and how long it was.
for i = 3, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 1 then return false end
end
-- The first is moved alone: a Redis that is out of memory refuses that, but would let a script go on that has written.
local first = redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
if not first then return {} end
local longest, ends = tonumber(ARGV[2]), tonumber(ARGV[3])
local function cut(element)
  return string.sub(element, 1, ends) .. '\0cut ' .. #element .. '\0' .. string.sub(element, -ends)
end
if #first > longest then
  first = cut(first)
  redis.call('LSET', KEYS[2], -1, first)
end
local more = tonumber(ARGV[1]) - 1
local elements = more > 0 and redis.call('LPOP', KEYS[1], more) or {}
for i, element in ipairs(elements) do
  if #element > longest then elements[i] = cut(element) end
end
if #elements > 0 then redis.call('RPUSH', KEYS[2], unpack(elements)) end
table.insert(elements, 1, first)
return elements
