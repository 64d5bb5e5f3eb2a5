-- Writes down what became of the instant ARGV[1] of the cron entry whose runs are in KEYS[1], if it is still kept.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
return 1
