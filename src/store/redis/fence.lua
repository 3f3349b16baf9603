-- Fences the sessions of a node that were born before an epoch: from now on they may only be closed.
--
-- KEYS: the node's fence. ARGV: the highest epoch that is over.
local fenced = tonumber(redis.call('GET', KEYS[1])) or 0
if tonumber(ARGV[1]) > fenced then
  redis.call('SET', KEYS[1], ARGV[1])
end
return 1
