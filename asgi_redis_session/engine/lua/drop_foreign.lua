-- Delete the session of another library. KEYS: its key. Answers {key, how many}.
return {KEYS[1], redis.call('DEL', KEYS[1])}
