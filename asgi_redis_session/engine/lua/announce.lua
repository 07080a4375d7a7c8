-- Publish on a channel, as a script does that ends a session: to prove that it is heard.
-- KEYS: the channel. ARGV: 1 on a Cluster (else 0).
announce(KEY, 'proof', ARGV[1] == '1')
return {KEY, 1}
