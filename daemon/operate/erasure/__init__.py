"""`forget`: erases the records of users and orders, everywhere in the output. Read `forget` first. Owns what is erased and in
which order; never touches the inbox, nor anything outside the output."""
