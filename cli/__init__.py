"""The commands of featstore: one file a group; parse, call one function, print."""
