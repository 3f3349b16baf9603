-- Fences what was born in a node before an epoch: from now on it is only closed.
--
-- KEYS: the node's fence. ARGV: the highest epoch that is over.
local fenced = tonumber(redis.call('GET', KEYS[1])) or 0
if tonumber(ARGV[1]) > fenced then
  redis.call('SET', KEYS[1], ARGV[1])
end
return 1
