-- Settles one answered element whose first attempt ended without a word: it may have been settled or not, and a Redis
-- that lost its last second may know neither the element nor the answer.
-- KEYS: in-flight list, result (or ''), body (or ''). ARGV: element, TTL of the result, answer, then channels and
-- messages in turn. Gives back how many received it; 1 if it had been settled already.
if KEYS[2] ~= '' then
  local is_ours = redis.call('LPOS', KEYS[1], ARGV[1])
  if not is_ours and redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
  redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[2])
end
local received = 0
for i = 4, #ARGV, 2 do
  received = received + redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
end
redis.call('LREM', KEYS[1], 1, ARGV[1])
if KEYS[3] ~= '' then redis.call('DEL', KEYS[3]) end
return received
