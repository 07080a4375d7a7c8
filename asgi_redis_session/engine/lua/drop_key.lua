-- Delete a key that is no session of ours, such as the session of another library. KEYS: the key. Answers {key, how many}.
return {KEYS[1], redis.call('DEL', KEYS[1])}
