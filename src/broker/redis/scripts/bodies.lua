-- Reads the bodies KEYS; of one that is longer than ARGV[1] so much that it is seen to be.
local longest = tonumber(ARGV[1])
local bodies = redis.call('MGET', unpack(KEYS))
for i, body in ipairs(bodies) do
  if body and #body > longest then bodies[i] = string.sub(body, 1, longest + 1) end
end
return bodies
