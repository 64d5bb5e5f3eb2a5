-- Settles one answered element after an attempt that ended without a word: it may have been settled or not, and a Redis
-- that lost its last second may know neither the element nor the answer.
-- KEYS: fence, in-flight list, result, body, counts of verdicts; the fence stands for a result or body that there is not. ARGV: element, TTL of the result, answer,
-- verdict (or '' where there is none yet), then channels and messages in turn.
-- Gives back how many received it, 1 if it had been settled already, -1 if others have taken over.
if redis.call('GET', KEYS[1]) == 'gone' then return -1 end
if KEYS[3] ~= KEYS[1] then
  local is_ours = redis.call('LPOS', KEYS[2], ARGV[1])
  if not is_ours and redis.call('EXISTS', KEYS[3]) == 1 then return 1 end
  redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[2])
end
local received = 0
for i = 5, #ARGV, 2 do
  received = received + redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
end
-- Without a stored answer only the list tells whether it was settled.
local was_there = redis.call('LREM', KEYS[2], 1, ARGV[1])
if ARGV[4] ~= '' and (KEYS[3] ~= KEYS[1] or was_there == 1) then redis.call('HINCRBY', KEYS[5], ARGV[4], 1) end
if KEYS[4] ~= KEYS[1] then redis.call('DEL', KEYS[4]) end
return received
