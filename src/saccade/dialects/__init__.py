"""HTTP → Call, Result → HTTP, in the words of one API each."""
