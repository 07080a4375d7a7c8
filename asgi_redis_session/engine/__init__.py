"""What sessions are made of: values, hashes, a user's index, and the verbs that change them."""
