-- Say whether an identity provider has ended what a user logs in on.
-- KEYS: what the provider calls it. ARGV: when the login has entered it.
-- Answers {key, 1 or 0}.
local revoked = redis.call('ZSCORE', KEYS[1], 'revoked')
return {KEYS[1], revoked and tonumber(revoked) >= tonumber(ARGV[1]) and 1 or 0}
