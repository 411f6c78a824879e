"""What each command does: from the configuration and its options to an exit code. Heavy imports wait until a command needs them.
Knows everything below; nothing but cli and serving knows it."""
