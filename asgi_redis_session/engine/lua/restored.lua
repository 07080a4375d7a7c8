-- Nothing follows restore.lua: the session is as it was taken. Answers {key, 1}.
return {KEY, 1}
